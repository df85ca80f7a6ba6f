import pytest
import torch
from monai.networks.nets import DenseNet121

from neuro_ssl.encoders.densenet3d import DenseNet3D
from neuro_ssl.errors import InputError


def test_equals_monais_densenet_before_its_classifier():
    small = {"block_config": (2, 1, 3, 1), "growth_rate": 4, "init_features": 8}
    theirs = DenseNet121(spatial_dims=3, in_channels=1, out_channels=5, **small)
    ours = DenseNet3D(**small)
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("class_layers.")}
    ours.load_state_dict(state)
    theirs.class_layers.out = torch.nn.Identity()
    volume = torch.randn(2, 1, 33, 36, 39, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.train()(volume), theirs.train()(volume))


@pytest.mark.parametrize("wrong", [{"block_config": ()}, {"growth_rate": 0}, {"init_features": 0}])
def test_refuses(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DenseNet3D(**wrong)
