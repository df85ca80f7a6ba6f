import pytest
import torch
from monai.networks.nets import resnet10, resnet18, resnet34, resnet50
from torch import nn

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError


def test_equals_monais_resnet18():
    monai = resnet18(spatial_dims=3, n_input_channels=1, feed_forward=False, shortcut_type="B", bias_downsample=True)
    ours = ResNet3D(stem_stride=1)  # MONAI's and the paper's
    ours.load_state_dict(monai.state_dict())
    volume = torch.randn(2, 1, 17, 20, 19, generator=torch.Generator().manual_seed(0))
    monai.eval(), ours.eval()
    torch.testing.assert_close(ours(volume), monai(volume))
    assert ours(volume).shape == (2, ours.embed_dim) == (2, 512)
    assert sum(p.numel() for p in ours.parameters()) == pytest.approx(33.2e6, rel=0.005)


@pytest.mark.parametrize(("depth", "monai"), [(10, resnet10), (18, resnet18), (34, resnet34), (50, resnet50)])
def test_every_depth_equals_monais(depth, monai):
    theirs = monai(n_input_channels=1, feed_forward=False, widen_factor=1 / 8, conv1_t_stride=2)
    ours = ResNet3D(depth, width=8)
    ours.load_state_dict(theirs.state_dict())
    volume = torch.randn(2, 1, 33, 36, 39, generator=torch.Generator().manual_seed(0))
    for network in (ours.train(), theirs.train()):
        network(volume).square().sum().backward()
    torch.testing.assert_close(ours(volume), theirs(volume))
    for (name, parameter), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)


def test_group_norm_is_everywhere_and_batches_do_not_matter():
    encoder = ResNet3D(width=8, norm="group")
    assert not any(isinstance(module, nn.BatchNorm3d) for module in encoder.modules())
    volume = torch.randn(3, 1, 16, 18, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder(volume)[1:2], encoder(volume[1:2]), atol=1e-5, rtol=1e-5)


def test_features_are_the_mean_of_the_maps():
    encoder = ResNet3D(width=8).eval()
    volume = torch.randn(1, 1, 38, 48, 48)
    maps = encoder.forward_features(volume)
    assert maps.shape[:2] == (1, 64)
    torch.testing.assert_close(encoder(volume), maps.mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("wrong", [{"depth": 19}, {"width": 12}, {"width": 0}, {"stem_stride": 0}])
def test_refuses(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ResNet3D(**wrong)
