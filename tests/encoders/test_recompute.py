"""Activation checkpointing: the same numbers from less memory."""

import pytest
import torch

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.tasks.gradient_cache import in_micro_batches
from tests.encoders.tiny import FAMILIES, over, tiny, volume


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


@pytest.mark.parametrize("name", ["resnet10", "sfcn"])
def test_within_a_micro_batch_that_is_itself_computed_twice(name):
    """Gradient caching keeps buffers still as well: each counts every micro-batch once."""
    encoders = [tiny(name, checkpoint_stages=n).train() for n in (0, 2)]
    for encoder in encoders:
        x = volume(4)
        embedding = in_micro_batches(lambda rows, x=x, e=encoder: e(x[rows]), len(x), 2, encoder)
        (embedding @ embedding.T).exp().sum().log().backward()
    for ours, theirs in zip(*(encoder.parameters() for encoder in encoders), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)
    for ours, theirs in zip(*(encoder.buffers() for encoder in encoders), strict=True):
        assert torch.equal(ours, theirs)
    assert {int(b) for key, b in encoders[1].named_buffers() if key.endswith("num_batches_tracked")} == {2}


def test_in_training_alone():
    twice, once = tiny("sfcn", checkpoint_stages=4), tiny("sfcn")
    calls = []
    twice.feature_extractor[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for encoder in (twice.eval(), once.eval()):
        encoder(volume()).square().sum().backward()
    assert len(calls) == 1
    for ours, theirs in zip(twice.parameters(), once.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    twice.train()(volume()).square().sum().backward()
    assert len(calls) == 3
    with torch.no_grad():
        twice(volume())
    assert len(calls) == 4


@pytest.mark.parametrize("checkpoint_stages", [-1, 6])
def test_refuses_what_is_no_number_of_stages(checkpoint_stages):
    with pytest.raises(InputError, match=f"checkpoint_stages must be from 0 to 5, got {checkpoint_stages}"):
        ResNet3D(width=8, checkpoint_stages=checkpoint_stages)
