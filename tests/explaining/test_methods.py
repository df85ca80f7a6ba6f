"""Attributions against what they are for a linear model, and against their definitions written out."""

import itertools

import pytest
import torch
from torch import nn

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.encoders.sfcn import SFCN
from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.errors import InputError
from neuro_ssl.explaining.grad_cam import GradientCAM, _placed
from neuro_ssl.explaining.methods import IntegratedGradients, Occlusion, attribution
from neuro_ssl.explaining.output import Distance, Explained, Linear, background

SHAPE = (7, 8, 9)


class Flat(nn.Module):
    """Every voxel is a feature."""

    def forward(self, volume):
        return volume.flatten(1)


@pytest.fixture
def linear():
    """A linear model, its weights and two inputs with background around."""
    torch.manual_seed(0)
    weight, inputs = torch.randn(1, 1, *SHAPE), torch.randn(2, 1, *SHAPE)
    inputs[:, :, :2] = inputs[:, :, :, 6:] = inputs[0, ..., 7:] = 0
    return Explained(Flat(), Linear(weight.flatten(), 3.0)), weight, inputs


def test_a_linear_models_gradient_times_input(linear):
    model, weight, inputs = linear
    found = attribution("gradient_x_input", model, inputs, batch_size=1)
    torch.testing.assert_close(found, weight * inputs)
    assert not found.requires_grad and not inputs.requires_grad


@pytest.mark.parametrize("baseline", [None, torch.linspace(-1, 1, 504).reshape(1, 1, *SHAPE)])
def test_a_linear_models_integrated_gradients(linear, baseline):
    model, weight, inputs = linear
    found = attribution(IntegratedGradients(n_steps=2), model, inputs, baseline=baseline, batch_size=3)
    torch.testing.assert_close(found, weight * (inputs - (0 if baseline is None else baseline)))


@pytest.mark.parametrize(("window", "stride"), [(3, 3), (3, 2), (2, 1), (7, 4)])
@pytest.mark.parametrize("absent", [0.0, 0.5])
def test_a_linear_models_occlusion(linear, window, stride, absent):
    """By the mean over cubes of the sums in them; cubes at the far edges are cut off there."""
    model, weight, inputs = linear
    baseline = torch.full_like(inputs, absent)
    method = Occlusion(window_mm=2.0 * window, stride_mm=2.0 * stride)
    found = attribution(method, model, inputs, baseline=baseline, spacing_mm=2.0, batch_size=5)
    contribution = weight * (inputs - absent)
    total, cubes = torch.zeros_like(inputs), torch.zeros_like(inputs)
    starts = [range(0, n - window + stride, stride) for n in SHAPE]
    for z, y, x in itertools.product(*starts):
        cube = (..., slice(z, z + window), slice(y, y + window), slice(x, x + window))
        total[cube] += contribution[cube].sum(dim=(1, 2, 3, 4), keepdim=True)
        cubes[cube] += 1
    expected = total / cubes
    brain = inputs != absent  # cubes of background alone are passed over, and don't count where others reach over them
    torch.testing.assert_close(found[brain], expected[brain], atol=1e-4, rtol=1e-4)


def resnet(width=8):
    torch.manual_seed(1)
    return ResNet3D(depth=10, width=width)


def explained(encoder, seed=2):
    torch.manual_seed(seed)
    return Explained(encoder, Linear(torch.randn(encoder.embed_dim)))


def test_integrated_gradients_add_up_to_the_outputs_difference():
    model, inputs = explained(resnet()), torch.randn(2, 1, 16, 16, 16)
    found = attribution(IntegratedGradients(n_steps=100), model, inputs, batch_size=50)
    difference = model(inputs) - model(torch.zeros_like(inputs))
    torch.testing.assert_close(found.sum(dim=(1, 2, 3, 4)), difference, rtol=0.05, atol=0)


def test_the_distance_from_others():
    features = torch.randn(5, 3, dtype=torch.float64).float() * torch.tensor([1.0, 10.0, 1e-9])
    found = Distance(features)(features).double()
    centred, sd = features.double() - features.double().mean(dim=0), features.double().std(dim=0, correction=0)
    floor = 0.1 * sd.square().mean().sqrt()
    expected = (centred / torch.maximum(sd, floor)).square().sum(dim=1) / 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="needs at least 2, and there is 1"):
        Distance(features[:1])


def test_background_where_it_is_not_zero():
    volume = torch.zeros(2, 1, 3, 3, 3)
    volume[:, :, 1] = torch.rand(2, 1, 3, 3) + 0.5
    normalised = (volume - volume.mean(dim=(1, 2, 3, 4), keepdim=True)) / 0.3
    empty = background(normalised, "z_score_volume")
    assert torch.equal(empty[:, :, 0], normalised[:, :, 0]) and (empty == empty[:, :, :1, :1, :1]).all()
    assert not background(normalised, "z_score_brain").any()


def test_grad_cam_is_its_definition():
    """On the maps themselves: no stride, and so no interpolation."""
    torch.manual_seed(3)
    encoder = resnet()
    model, inputs = explained(encoder), torch.randn(2, 1, 20, 24, 28)
    maps = inputs
    for module in [*encoder.stages()[0], *encoder.stages()[1]]:
        maps = module(maps)
    maps = maps.detach().requires_grad_()
    features = encoder.layer4(encoder.layer3(encoder.layer2(maps))).mean(dim=(2, 3, 4))
    (gradient,) = torch.autograd.grad(model.readout(features).sum(), maps)
    cam = (gradient.mean(dim=(2, 3, 4), keepdim=True) * maps).sum(dim=1, keepdim=True).clamp(min=0).detach()
    found = attribution(GradientCAM(layer=1), model, inputs)
    assert found.shape == inputs.shape and (found >= 0).all()
    torch.testing.assert_close(found[..., ::4, ::4, ::4], cam)  # stride 4: elements lie on every fourth voxel
    half = (cam[..., :-1, :, :] + cam[..., 1:, :, :]) / 2
    torch.testing.assert_close(found[..., 2:-2:4, ::4, ::4], half)
    assert not any(module._forward_hooks or module._backward_hooks for module in encoder.modules())


@pytest.mark.parametrize(
    ("encoder", "n_stages", "size"),
    [(resnet(), 2, 40), (resnet(), 3, 77), (SFCN(channels=(4, 4, 4, 8)), 3, 40), (SFCN(channels=(4, 4, 8)), 3, 21)],
)
def test_an_element_is_put_where_it_looks(encoder, n_stages, size):
    """Which its gradient shows: symmetric about the centre, with equal weights and means in place of maxima."""
    encoder.eval()
    x = volume = torch.ones(1, 1, size, size, size, requires_grad=True)
    for module in [module for stage in encoder.stages()[:n_stages] for module in stage]:
        for name, part in [(name, part) for name, part in module.named_modules() if isinstance(part, nn.MaxPool3d)]:
            mean = nn.AvgPool3d(part.kernel_size, part.stride, part.padding)
            module = mean if not name else setattr(module, name, mean) or module
        for part in module.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.constant_(part.weight, 1e-2)
        x = module(x)
    element = (x.shape[2] - 1) // 2
    x[0, :, element, element, element].sum().backward()
    seen = volume.grad[0, 0].sum(dim=(1, 2)).double()
    centre = float((seen * torch.arange(size)).sum() / seen.sum())

    maps = torch.zeros(1, 1, *x.shape[2:])
    maps[0, 0, element, element, element] = 1
    line = _placed(maps, (size, size, size), encoder)[0, 0].sum(dim=(1, 2)).double()
    assert float((line * torch.arange(size)).sum() / line.sum()) == pytest.approx(centre, abs=0.01)


@pytest.mark.parametrize(
    ("method", "encoder", "message"),
    [
        ("saliency", resnet(), "methods: 'saliency' is none of gradient_x_input, integrated_gradients, occlusion, gr"),
        ("grad_cam", ViT3D(width=48, n_layers=1, n_heads=2), "ViT3D has tokens: take methods=.integrated_gradients"),
        ("grad_cam", Flat(), "Flat is no neuro_ssl.encoders.Encoder"),
        ("grad_cam", resnet(), "grad_cam.layer=-1 has maps of 1×1×1 elements, which show no place"),
        (GradientCAM(layer=5), resnet(), "grad_cam.layer must be from -5 to 4 for ResNet3D, got 5"),
        (Occlusion(window_mm=100), resnet(), "a cube of 50 voxels doesn't fit into 24×24×24"),
    ],
)
def test_what_cannot_be_explained(method, encoder, message):
    model = Explained(encoder, Linear(torch.ones(getattr(encoder, "embed_dim", 24**3))))
    with pytest.raises(InputError, match=message):
        attribution(method, model, torch.randn(1, 1, 24, 24, 24), spacing_mm=2.0)


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="n_steps must be at least 1, got 0"):
        IntegratedGradients(n_steps=0)
    with pytest.raises(InputError, match="cubes would leave gaps; got window_mm=2 and stride_mm=3"):
        Occlusion(window_mm=2, stride_mm=3)
