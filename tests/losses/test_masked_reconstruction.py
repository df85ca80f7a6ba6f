import math

import pytest
import torch

from neuro_ssl.losses import masked_reconstruction
from neuro_ssl.losses.masked_reconstruction import patch_statistics


def plain_loop(prediction, patches, masked, normalise):
    """He et al. 2022, section 3, written out: of each scan the mean over its masked patches' voxels."""
    losses = []
    for sample in range(len(patches)):
        errors = []
        for i, counts in enumerate(masked[sample].tolist()):
            if not counts:
                continue
            target = patches[sample, i].double().tolist()
            if normalise:
                mean = sum(target) / len(target)
                variance = sum((x - mean) ** 2 for x in target) / len(target)
                target = [(x - mean) / math.sqrt(variance + 1e-6) for x in target]
            output = prediction[sample, i].double().tolist()
            errors.append(sum((a - b) ** 2 for a, b in zip(output, target, strict=True)) / len(target))
        losses.append(sum(errors) / len(errors) if errors else 0.0)
    return losses


@pytest.fixture
def example():
    """Three scans of five patches; of the second 1 is masked, of the third none; one patch is flat."""
    generator = torch.Generator().manual_seed(0)
    prediction, patches = torch.randn(2, 3, 5, 7, generator=generator)
    patches = 3 * patches + 10
    patches[0, 1] = 2.5
    masked = torch.tensor([[1, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    return prediction, patches, masked


@pytest.mark.parametrize("normalise", [True, False])
def test_equals_a_plain_loop(example, normalise):
    loss = masked_reconstruction(*example, normalise)
    assert loss.tolist() == pytest.approx(plain_loop(*example, normalise), rel=1e-4)


def test_half_precision_is_computed_in_float32(example):
    prediction, patches, masked = example
    half = prediction.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = masked_reconstruction(half, patches, masked)
    assert loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx(plain_loop(half, patches, masked, True), rel=1e-4)


def test_predicting_each_patchs_mean_costs_one(example):
    _, patches, masked = example
    masked[0, 1] = False  # the flat one costs nothing
    assert masked_reconstruction(torch.zeros_like(patches), patches, masked)[:2].tolist() == pytest.approx([1, 1])
    mean, _ = patch_statistics(patches)
    variance = patches.var(dim=2, correction=0)[0, [0, 3, 4]].mean()
    raw = masked_reconstruction(mean.expand_as(patches), patches, masked, normalise_patches=False)
    assert raw[0].item() == pytest.approx(variance.item(), rel=1e-5)


def test_only_masked_patches_have_gradients(example):
    prediction, patches, masked = example
    prediction.requires_grad_()
    masked_reconstruction(prediction, patches, masked).sum().backward()
    assert torch.equal(prediction.grad.abs().sum(dim=2) > 0, masked)
