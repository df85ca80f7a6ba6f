"""Activation checkpointing: the same numbers from less memory."""

import pytest
import torch

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from tests.encoders.tiny import FAMILIES, TINY, over, tiny, volume


def step(encoder):
    """Gradients, batch-norm statistics and features of two steps, and how many bytes the second kept for backward."""
    kept = []

    def count(tensor):
        kept.append((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()))
        return tensor

    encoder.train()
    encoder(volume(2)).square().sum().backward()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        features = encoder(3 * volume(2))
    features.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    return gradients, dict(encoder.named_buffers()), features, sum(dict(kept).values())


@over(FAMILIES)
def test_the_same_numbers_from_less_memory(name):
    n_stages = len(tiny(name).stages())
    gradients, statistics, features, everything = step(tiny(name))
    kept = []
    for checkpoint_stages in (2, n_stages):
        encoder = tiny(name, checkpoint_stages=checkpoint_stages)
        assert list(encoder.state_dict()) == list(tiny(name).state_dict())
        gradients_too, statistics_too, features_too, bytes_kept = step(encoder)
        assert torch.equal(features_too, features)
        assert gradients_too.keys() == gradients.keys() and statistics_too.keys() == statistics.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradients_too[key], gradient, msg=key)
        for key, statistic in statistics.items():  # means, variances, and number of batches: once a step
            assert torch.equal(statistics_too[key], statistic), key
        kept.append(bytes_kept)
    assert kept[1] < kept[0] < everything
    assert kept[1] < 0.5 * everything


def test_inside_a_computation_that_is_itself_done_twice():
    """As gradient caching does with a micro-batch."""
    from torch.utils.checkpoint import checkpoint

    class Twice(torch.nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, x):
            return checkpoint(self.encoder, x, use_reentrant=False)

    inner, outer = (tiny("resnet10", norm="group", checkpoint_stages=2) for _ in range(2))
    inner(volume()).square().sum().backward()
    Twice(outer)(volume()).square().sum().backward()
    for ours, theirs in zip(outer.parameters(), inner.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_nothing_is_kept_apart_without_gradients():
    encoder = tiny("resnet10", checkpoint_stages=5).eval()
    with torch.no_grad():
        assert torch.equal(encoder(volume()), tiny("resnet10").eval()(volume()))


@pytest.mark.parametrize("checkpoint_stages", [-1, 6])
def test_refuses_what_is_no_number_of_stages(checkpoint_stages):
    with pytest.raises(InputError, match=f"checkpoint_stages must be from 0 to 5, got {checkpoint_stages}"):
        ResNet3D(width=8, checkpoint_stages=checkpoint_stages)


def test_tiny_encoders_have_stages():
    assert all(len(tiny(name).stages()) > 2 for name in TINY if name != "resenc_l")
