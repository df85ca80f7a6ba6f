import sys

import pytest
import torch
from torch import nn

from neuro_ssl.encoders.resenc import ResEnc
from neuro_ssl.errors import InputError
from tests.encoders.tiny import over


@over(["resenc_l"])
def test_equals_the_encoder_of_nnunets_network(name):
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    features, blocks = (4, 6, 8), (1, 2, 1)
    unet = ResidualEncoderUNet(
        *(1, 3, features, nn.Conv3d, 3, (1, 2, 2), blocks, 2, 1, True),
        **{"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}},
        **{"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}},
    )
    ours = ResEnc(features, blocks)
    # As in a published checkpoint, where the encoder's names start so, and the decoder's with `decoder.`.
    state = {key: value for key, value in unet.state_dict().items() if key.startswith("encoder.")}
    ours.load_state_dict(state)
    volume = torch.randn(2, 1, 12, 16, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.forward_features(volume), unet.encoder(volume)[-1])
        # Any other size: as if padded with background at the end.
        padded = torch.zeros_like(volume)
        padded[:, :, :11, :13, :18] = volume[:, :, :11, :13, :18]
        torch.testing.assert_close(ours(volume[:, :, :11, :13, :18]), ours(padded))


def test_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.building_blocks.residual_encoders", None)
    with pytest.raises(InputError, match=r"dynamic_network_architectures.*pip install 'neuro_ssl\[resenc\]'"):
        ResEnc()


@over(["resenc_l"])
def test_refuses(name):
    with pytest.raises(InputError, match="encoder.features and encoder.blocks"):
        ResEnc((4, 8), (1,))
