"""Features of a chosen layer, against the same layers called by hand."""

import pytest
import torch
from torch import nn

from neuro_ssl.encoders.pooled import Pooled
from neuro_ssl.encoders.vit3d import sincos_positions
from neuro_ssl.errors import InputError
from tests.encoders.tiny import FAMILIES, over, settled, volume


def by_hand_resnet(encoder, x):
    x = encoder.maxpool(encoder.act(encoder.bn1(encoder.conv1(x))))
    for layer in (encoder.layer1, encoder.layer2):
        x = layer(x)
    return x.flatten(2)


def by_hand_vit(encoder, x):
    """The tokens of the patches after the first block; the class token, the first, is no place of the volume."""
    patches = encoder.patches(x)
    tokens = encoder.patch_embedding(patches) + sincos_positions(x.shape[2:], encoder.stride, encoder.embed_dim)
    tokens = torch.cat([encoder.class_token.expand(len(x), 1, -1), tokens], dim=1)
    return encoder.blocks[0](tokens)[:, 1:].transpose(1, 2)


@pytest.mark.parametrize(("name", "layer", "by_hand"), [("resnet10", 2, by_hand_resnet), ("vit_small", 1, by_hand_vit)])
def test_an_inner_layer_is_that_of_the_modules_by_hand(name, layer, by_hand):
    encoder = settled(name)
    with torch.inference_mode():
        places = by_hand(encoder, volume())
        torch.testing.assert_close(Pooled(encoder, layer, "mean")(volume()), places.mean(dim=2))
        torch.testing.assert_close(Pooled(encoder, layer, "max")(volume()), places.max(dim=2).values)
        own = encoder(volume())
        torch.testing.assert_close(Pooled(encoder)(volume()), own)
        assert not Pooled(encoder, 0, "mean")(volume()).isnan().any()
        torch.testing.assert_close(encoder(volume()), own)  # no hook stays


@over(FAMILIES)
def test_every_layer_of_every_family(name):
    encoder = settled(name)
    layers = ["last", *range(len(encoder.stages()))]
    with torch.inference_mode():
        for layer in layers:
            pooled = Pooled(encoder, layer, "max")
            features = pooled(volume())
            assert features.shape == (2, pooled.embed_dim)
            assert not features.isnan().any() and not torch.equal(features[0], features[1])
        # The last stage is the last layer.
        torch.testing.assert_close(
            Pooled(encoder, layers[-1], "max")(volume()), Pooled(encoder, "last", "max")(volume())
        )
        if name != "vit_small":  # whose own features are the class token
            torch.testing.assert_close(Pooled(encoder, layers[-1], "mean")(volume()), encoder(volume()))


@pytest.mark.parametrize(
    ("layer", "pooling", "message"),
    [
        (5, "mean", "layer must be last or from 0 to 4 for ResNet3D, got 5"),
        (-1, "mean", "got -1"),
        ("first", "mean", "got 'first'"),
        (True, "mean", "got True"),
        (2, "encoder", "layer=2: the encoder pools its last layer alone; set pooling=mean or max"),
        ("last", "median", "pooling must be encoder, mean or max, got 'median'"),
    ],
)
def test_one_clear_error(layer, pooling, message):
    with pytest.raises(InputError, match=message):
        Pooled(settled("resnet10"), layer, pooling)


def test_other_modules_have_their_own_features_alone():
    module = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    module.embed_dim = 3
    assert Pooled(module)(torch.ones(2, 1, 2, 2, 2)).shape == (2, 3)
    with pytest.raises(InputError, match="Sequential is no neuro_ssl.encoders.Encoder"):
        Pooled(module, "last", "mean")
