"""Maps of a trained model change when it forgets what it learnt (Adebayo et al. 2018); an edge detector's don't."""

import math

import pytest
import torch
from scipy import stats

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.explaining.methods import attribution
from neuro_ssl.explaining.output import Explained, Linear
from neuro_ssl.explaining.sanity import SUSPICIOUS, likeness, likeness_to_untrained, randomised


def encoder(seed):
    torch.manual_seed(seed)
    return ResNet3D(depth=10, width=8, norm="group", stem_stride=1)


def brains(n):
    """Noise with a bright corner, at the left in half of them."""
    volumes, left = torch.randn(n, 1, 16, 16, 16), torch.arange(n) % 2
    volumes[left == 0, ..., :5] += 2
    volumes[left == 1, ..., 11:] += 2
    return volumes, left.float()


@pytest.fixture(scope="module")
def trained():
    """A tiny network that tells the sides apart."""
    torch.manual_seed(0)
    network, head = encoder(1), torch.nn.Linear(64, 1)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(12):
        volumes, side = brains(8)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(network(volumes))[:, 0], side)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    return Explained(network, Linear(head.weight[0].detach(), float(head.bias.detach())))


def test_a_trained_models_maps_change(trained):
    inputs, _ = brains(2)
    before = [parameter.clone() for parameter in trained.parameters()]

    def attribute(model, x):
        return attribution("gradient_x_input", model, x)

    found = likeness_to_untrained(trained, encoder(5).eval(), inputs, inputs > -9, attribute)
    assert list(found) == ["head", "stage 4", "stage 3", "stage 2", "stage 1", "input"]
    assert found["input"] < SUSPICIOUS and found["input"] < found["head"]
    assert all(map(torch.equal, before, trained.parameters()))  # the model itself has forgotten nothing


def test_a_map_that_ignores_the_model_is_found(trained):
    inputs, _ = brains(2)
    found = likeness_to_untrained(trained, encoder(5), inputs, inputs > 0, lambda _, x: x.abs())
    assert set(found.values()) == {1.0}


def test_scans_whose_maps_are_empty_do_not_count(trained):
    """As Grad-CAM's may be: of two scans one map of zeros, then both."""
    inputs, _ = brains(2)
    inputs[1] *= 0
    found = likeness_to_untrained(trained, encoder(5), inputs, torch.ones_like(inputs) > 0, lambda _, x: x)
    assert set(found.values()) == {1.0}
    found = likeness_to_untrained(trained, encoder(5), inputs, torch.ones_like(inputs) > 0, lambda _, x: 0 * x)
    assert all(map(math.isnan, found.values()))


def test_at_the_end_nothing_is_trained(trained):
    new = encoder(5).eval()
    inputs, _ = brains(2)
    outputs = {where: model.encoder(inputs) for where, model in randomised(trained, new)}
    torch.testing.assert_close(outputs["input"], new(inputs))
    torch.testing.assert_close(outputs["head"], trained.encoder(inputs))
    assert not torch.allclose(outputs["stage 4"], outputs["head"])


def test_likeness_is_a_rank_correlation_over_the_brain():
    a, b = torch.randn(2, 4, 4, 4)
    brain = torch.rand(4, 4, 4) > 0.3
    expected = stats.spearmanr(a.abs()[brain], b.abs()[brain]).statistic
    assert likeness(a, b, brain.numpy()) == pytest.approx(expected)
    assert likeness(a, a * (1 - 3 * (a < 0).float()).sign() * 7, brain.numpy()) == pytest.approx(1)
    assert math.isnan(likeness(a, torch.ones_like(a), brain.numpy()))
