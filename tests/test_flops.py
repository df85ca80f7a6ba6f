import pytest
import torch
from torch import nn

from neuro_ssl.acceleration import Acceleration
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.flops import peak_flops, training_flops


def by_hand(model, shape):
    """2 × kernel × channels in × channels out × voxels out of every convolution; the same again for the gradients of
    kernel and input, which the first convolution's input does not need."""
    terms = []

    def count(conv, _, output):
        terms.append(2 * conv.weight.numel() * output[0, 0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(count)
    with torch.device("meta"):
        model.to("meta").eval()(torch.empty(1, 1, *shape))
    return 3 * sum(terms) - terms[0], sum(terms)


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_the_papers_encoder_at_its_size(stem_stride):
    encoder, shape = ResNet3D(stem_stride=stem_stride), (150, 192, 192)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    counted = training_flops(encoder, shape)
    torch.testing.assert_close(encoder.state_dict(), before, rtol=0, atol=0)  # it was another that was run
    assert encoder.training
    training, forward = by_hand(encoder, shape)
    assert counted == training
    if stem_stride == 1:
        assert forward == pytest.approx(1.33e12, rel=0.01)  # the reference: 1.33 TFLOP a volume


def test_of_a_frozen_encoder_only_forward():
    encoder = ResNet3D(width=8).requires_grad_(False)
    counted = training_flops(encoder, (16, 16, 16))
    assert counted == by_hand(encoder, (16, 16, 16))[1]


def test_a_compiled_or_recomputing_encoder_counts_the_same():
    encoder = ResNet3D(width=8)
    plain = training_flops(encoder, (16, 16, 16))
    encoder.recompute_first(3)
    assert training_flops(encoder, (16, 16, 16)) == plain
    assert encoder.checkpoint_stages == 3
    Acceleration(compile=True, backend="eager", channels_last=True).apply(encoder, torch.device("cpu"))
    assert training_flops(encoder, (16, 16, 16)) == plain


def test_an_unknown_device_has_no_peak():
    assert peak_flops(torch.device("cpu"), "32-true") is None


def test_a_transformer():
    """Of 1,440 tokens: projections, attention and MLP of each block; patches, whose input needs no gradient."""
    n_tokens, width, n_layers, mlp, patch = 10 * 12 * 12, 192, 12, 768, 15 * 16 * 16
    block = 2 * n_tokens * (4 * width**2 + 2 * width * mlp) + 4 * n_tokens**2 * width
    patches = 2 * n_tokens * width * patch
    assert training_flops(ViT3D(), (150, 192, 192)) == 3 * n_layers * block + 2 * patches
