"""Masks, patches and the masked autoencoder's step; the loss itself is in tests/losses."""

import re

import pytest
import torch

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.errors import InputError
from neuro_ssl.losses import masked_reconstruction
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.mae import MAE
from neuro_ssl.tasks.masked_autoencoder import draw_mask, unpatchify
from neuro_ssl.tasks.simclr_mae import SimCLRMAE
from neuro_ssl.views.random import view_keys
from neuro_ssl.views.standard import Standard
from tests.test_configs import CONF

SHAPE, PATCH = (12, 12, 10), (4, 3, 5)  # 3×4×2 = 24 patches


def vit(**changes):
    return ViT3D(**({"width": 24, "n_layers": 2, "n_heads": 2, "patch_size": PATCH} | changes))


def mae(encoder=None, **changes):
    torch.manual_seed(0)
    settings = {"views": None, "optimizer": Optimizer(), "seed": 3, "decoder_width": 12, "decoder_layers": 1}
    return MAE(encoder or vit(), **(settings | {"decoder_heads": 2} | changes))


def batch(n=4):
    """Balls of different sizes, with noise in them."""
    generator = torch.Generator().manual_seed(0)
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    radius = (z**2 + y**2 + x**2).sqrt()
    brain = torch.stack([radius < r for r in torch.linspace(0.5, 1.0, n)])[:, None]
    volume = brain * torch.rand(n, 1, *SHAPE, generator=generator).clamp(min=0.1)
    number = torch.arange(n)
    return {"volume": volume.half(), "scan": number, "subject": number, "epoch": 0 * number, "draw": number}


def keys(n, seed=0, epoch=0):
    return view_keys(seed, torch.full((n,), epoch), torch.arange(n), 0)


@pytest.mark.parametrize("shape", [SHAPE, (5, 7, 9)])  # the second one is padded
def test_unpatchify_undoes_patches(shape):
    volume = torch.rand(2, 1, *shape)
    patches = vit().patches(volume)
    assert torch.equal(unpatchify(patches, PATCH, shape), volume)
    first = unpatchify(patches * (torch.arange(patches.shape[1]) == 0)[None, :, None], PATCH, shape)
    corner = torch.zeros_like(volume)
    corner[:, :, :4, :3, :5] = volume[:, :, :4, :3, :5]
    assert torch.equal(first, corner)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.6, 0.75, 0.9])
def test_masks_have_the_exact_ratio(ratio):
    n = 50
    visible, masked = draw_mask(keys(20), torch.ones(20, n, dtype=torch.bool), ratio)
    assert set(masked.sum(dim=1).tolist()) == {round(ratio * n)}
    for seen, hidden in zip(visible, masked, strict=True):  # every patch is one or the other
        assert sorted([*seen.tolist(), *hidden.nonzero().flatten().tolist()]) == list(range(n))


@pytest.mark.parametrize("ratio", [0.3, 0.75, 0.9])
def test_of_the_foreground_each_sample_masks_the_exact_ratio(ratio):
    n = 40
    countable = torch.stack([torch.rand(n, generator=torch.Generator().manual_seed(i)) < i / n for i in range(n + 1)])
    visible, masked = draw_mask(keys(n + 1), countable, ratio)
    assert masked.sum(dim=1).tolist() == [round(ratio * count) for count in countable.sum(dim=1).tolist()]
    assert not (masked & ~countable).any()
    assert visible.shape[1] == n - round(ratio * n)
    for seen, hidden, counts in zip(visible, masked, countable, strict=True):
        assert len(set(seen.tolist())) == len(seen) and not hidden[seen].any()
        seen_ones = torch.zeros(n, dtype=torch.bool).index_fill(0, seen, True)
        assert torch.equal(seen_ones & counts, counts & ~hidden)  # the rest of the brain, all of it


def test_masks_are_random():
    """Every patch is masked as often as the ratio says, and pairs as often as independence within the ratio does."""
    n_draws, n, n_masked = 4000, 12, 9
    _, masked = draw_mask(keys(n_draws), torch.ones(n_draws, n, dtype=torch.bool), 0.75)
    together = (masked.double().T @ masked.double()) / n_draws
    for pair, p in ((False, n_masked / n), (True, n_masked * (n_masked - 1) / n / (n - 1))):
        found = together[~torch.eye(n, dtype=torch.bool)] if pair else together.diagonal()
        assert (found - p).abs().max() < 5 * (p * (1 - p) / n_draws) ** 0.5


def test_a_mask_depends_on_seed_epoch_and_draw_alone():
    whole = torch.ones(6, 30, dtype=torch.bool)
    visible, masked = draw_mask(keys(6), whole, 0.75)
    again = draw_mask(keys(6)[4:5], whole[:1], 0.75)  # in a batch of its own
    assert torch.equal(again[0], visible[4:5]) and torch.equal(again[1], masked[4:5])
    for other in (keys(6, seed=1), keys(6, epoch=1)):
        assert not any(torch.equal(a, b) for a, b in zip(draw_mask(other, whole, 0.75)[1], masked, strict=True))
    assert len({tuple(row.tolist()) for row in masked}) == 6


@pytest.mark.parametrize("class_token", [False, True])
def test_the_encoder_sees_visible_patches_alone(class_token):
    task, lengths = mae(vit(class_token=class_token)).eval(), []
    for block in task.encoder.blocks:
        block.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    view, made = task.reconstruct(batch())
    assert lengths == [24 - 18 + class_token] * 2
    assert made.hidden.float().mean() == 0.75
    changed = torch.where(made.hidden, torch.randn_like(view), view)
    seen, _ = draw_mask(*task.keys(batch()), torch.ones(4, 24, dtype=torch.bool), 0.75)
    tokens = [task.encoder.forward_features(volume, seen) for volume in (view, changed)]
    assert torch.equal(*tokens)


@pytest.mark.parametrize("foreground_only", [False, True])
def test_reconstructions_are_what_the_loss_judges(foreground_only):
    task = mae(foreground_only=foreground_only).eval()
    view, made = task.reconstruct(batch())
    patches, prediction, masked = (task.encoder.patches(v.double()) for v in (view, made.prediction, made.masked))
    variance, mean = torch.var_mean(patches, dim=2, correction=0, keepdim=True)
    flat = (prediction - mean) / (variance + 1e-6).sqrt()
    expected = masked_reconstruction(flat, patches, masked.amax(dim=2) > 0)
    torch.testing.assert_close(made.loss.double(), expected, atol=1e-4, rtol=1e-4)
    assert task.measure(batch())[0]["loss"].item() == pytest.approx(expected.mean().item(), rel=1e-4)
    if foreground_only:
        assert not (task.encoder.patches(made.masked).any(dim=2) & (patches == 0).all(dim=2)).any()


def test_a_loss_does_not_depend_on_the_batch():
    task, data = mae(foreground_only=True).train(), batch()
    alone = [task.measure({key: value[i : i + 1] for key, value in data.items()})[0]["loss"] for i in range(4)]
    assert len({loss.item() for loss in alone}) == 4
    torch.testing.assert_close(task.measure(data)[0]["loss"], torch.stack(alone).mean())


@pytest.mark.parametrize("kind", [MAE, SimCLRMAE])
def test_micro_batches_change_no_gradient(kind):
    gradients = []
    for micro_batch_size in (None, 1):
        torch.manual_seed(0)
        decoder = {"decoder_width": 12, "decoder_layers": 1, "decoder_heads": 2}
        task = kind(vit(), Standard(), Optimizer(), 0, **decoder, micro_batch_size=micro_batch_size)
        task.measure(batch())[0]["loss"].backward()
        gradients.append([p.grad for p in task.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_loss_and_views_stay_in_float32_inside_mixed_precision():
    task = mae().train()
    full = task.measure(batch())[0]["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = task.measure(batch())[0]["loss"]
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(full.item(), rel=0.02) and mixed != full


@pytest.mark.parametrize("kind", [MAE, SimCLRMAE])
def test_a_compiled_encoder_is_what_the_step_computes(kind):
    """Its gradients too; each call of the encoder goes through what was compiled."""
    gradients, n_calls = [], 0

    def backend(graph, inputs):
        def call(*arguments):
            nonlocal n_calls
            n_calls += 1
            return graph(*arguments)

        return call

    for compiled in (False, True):
        torch.manual_seed(0)
        decoder = {"decoder_width": 12, "decoder_layers": 1, "decoder_heads": 2}
        task = kind(vit(n_layers=1), Standard(), Optimizer(), 0, **decoder)
        if compiled:
            task.encoder.compile(backend=backend, fullgraph=True)
        task.measure(batch())[0]["loss"].backward()
        gradients.append([p.grad for p in task.parameters()])
    assert n_calls == {MAE: 1, SimCLRMAE: 2}[kind]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_it_learns_what_can_be_known():
    """Volumes that all look alike: their hidden patches can be told, far better than by their means."""
    torch.manual_seed(0)
    task = mae(decoder_width=48, optimizer=Optimizer(learning_rate=0.01, schedule="constant")).train()
    data = batch()
    data["volume"] = data["volume"][3:].expand(4, -1, -1, -1, -1)
    optimizer = task.optimizer.build(task.parameters(), 90)["optimizer"]
    for epoch in range(90):
        loss = task.measure(data | {"epoch": torch.full((4,), epoch)})[0]["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.8  # the means' is 1


def test_the_hybrids_loss_is_the_weighted_sum():
    task = SimCLRMAE(vit(), Standard(), Optimizer(), 0, contrastive_weight=0.3, reconstruction_weight=2.0)
    measured, embedding = task.measure(batch())
    total = 0.3 * measured["contrastive_loss"] + 2 * measured["reconstruction_loss"]
    torch.testing.assert_close(measured["loss"], total)
    contrastive, accuracy, both = task.contrast(batch())  # SimCLR's own way
    torch.testing.assert_close(measured["contrastive_loss"], contrastive)
    assert measured["contrastive_accuracy"] == accuracy
    torch.testing.assert_close(embedding, both[:, 0])
    views, keys = task.make_views(batch()), task.keys(batch())
    losses = [task.autoencoder.losses(task.encoder, *pair).mean() for pair in zip(views, keys, strict=True)]
    torch.testing.assert_close(measured["reconstruction_loss"], torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mask_ratio": 1.5}, r"task.mask_ratio must be in \(0, 1\), got 1.5"),
        ({"decoder_width": 16}, "task.decoder_width must be a multiple of 6"),
        ({"decoder_layers": 0}, "task.decoder_layers at least 1"),
        ({"micro_batch_size": 0}, "micro_batch_size must be at least 1"),
        ({"encoder": ResNet3D(width=8)}, "ResNet3D can't leave out: choose encoder=vit_tiny"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(InputError, match=message):
        mae(**wrong)


def test_refuses_what_would_leave_nothing_to_see_or_to_mask():
    with pytest.raises(InputError, match="of 2 patches masks 2, .* take a finer grid, a smaller encoder.patch_size"):
        mae(vit(patch_size=(6, 12, 10))).measure(batch())
    with pytest.raises(InputError, match="must be positive, got 0 and 1; for one of the two: task=simclr or task=mae"):
        SimCLRMAE(vit(), Standard(), Optimizer(), 0, contrastive_weight=0.0)


def test_the_recipe_claims_nothing_of_the_paper():
    lines = (CONF / "experiment" / "kaczmarek2025" / "mae_pretrain.yaml").read_text().splitlines()
    values = [line for line in lines if re.match(r" *\w+: +\S", line) and not line.startswith("name:")]
    assert len(values) > 20
    assert all("# our choice" in line for line in values)
