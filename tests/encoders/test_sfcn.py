import pytest
import torch
import torch.nn.functional as F

from neuro_ssl.encoders.sfcn import SFCN
from neuro_ssl.errors import InputError


def test_is_the_published_network():
    """Names and shapes of the authors' checkpoint, and their layers in their order, written out."""
    encoder = SFCN()
    state = encoder.state_dict()
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert list(state) == [f"feature_extractor.conv_{block}.{name}" for block in range(6) for name in names]
    shapes = [tuple(state[f"feature_extractor.conv_{block}.0.weight"].shape) for block in range(6)]
    assert shapes == [
        *((32, 1, 3, 3, 3), (64, 32, 3, 3, 3), (128, 64, 3, 3, 3), (256, 128, 3, 3, 3), (256, 256, 3, 3, 3)),
        (64, 256, 1, 1, 1),
    ]
    x = volume = torch.randn(1, 1, 64, 65, 40, generator=torch.Generator().manual_seed(0))
    for block in range(6):
        part = {name: state[f"feature_extractor.conv_{block}.{name}"] for name in names}
        x = F.conv3d(x, part["0.weight"], part["0.bias"], padding=1 if block < 5 else 0)
        mean, variance = x.mean(dim=(0, 2, 3, 4), keepdim=True), x.var(dim=(0, 2, 3, 4), keepdim=True, correction=0)
        x = (x - mean) / (variance + 1e-5).sqrt()
        x = F.relu(F.max_pool3d(x, 2) if block < 5 else x)
    with torch.no_grad():
        torch.testing.assert_close(encoder.train()(volume), x.mean(dim=(2, 3, 4)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [(), (32, 0)])
def test_refuses(channels):
    with pytest.raises(InputError, match="encoder.channels"):
        SFCN(channels)
