"""The vision transformer against MONAI's parts, and what a masked autoencoder asks of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from monai.networks.blocks.transformerblock import TransformerBlock
from torch.utils._python_dispatch import TorchDispatchMode

from neuro_ssl.encoders.vit3d import ViT3D, sincos_positions
from neuro_ssl.errors import InputError

PATCH = (5, 8, 8)
SHAPE = (21, 35, 38)  # 5×5×5 patches, the last of each axis padded


def tiny(**parameters):
    torch.manual_seed(0)
    return ViT3D(**({"width": 24, "n_layers": 2, "n_heads": 2, "patch_size": PATCH} | parameters)).eval()


def volume(shape=SHAPE, batch=2):
    return torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(1))


def monai_positions(grid, width):
    """MONAI has the second axis' positions first."""
    with pytest.warns(UserWarning, match="meshgrid"):
        y, z, x = build_sincos_position_embedding(list(grid), width, 3)[0].chunk(3, dim=1)
    return torch.cat([z, y, x], dim=1)


def test_equals_monais_blocks():
    """Of the same weights: patches by convolution, their sine–cosine positions, their blocks."""
    ours = tiny()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tokens = F.conv3d(
        F.pad(volume(), (0, 2, 0, 5, 0, 4)),
        ours.patch_embedding.weight.reshape(24, 1, *PATCH),
        ours.patch_embedding.bias,
        stride=PATCH,
    )
    tokens = tokens.flatten(2).transpose(1, 2) + sincos_positions(SHAPE, PATCH, 24)
    for block in ours.blocks:
        theirs = TransformerBlock(24, 96, 2, qkv_bias=True)
        pairs = {
            **{"attn.qkv.weight": block.self_attn.in_proj_weight, "attn.qkv.bias": block.self_attn.in_proj_bias},
            **{f"attn.out_proj.{kind}": getattr(block.self_attn.out_proj, kind) for kind in ("weight", "bias")},
            **{f"mlp.linear1.{kind}": getattr(block.linear1, kind) for kind in ("weight", "bias")},
            **{f"mlp.linear2.{kind}": getattr(block.linear2, kind) for kind in ("weight", "bias")},
            **{
                f"norm{i}.{kind}": getattr(block, f"norm{i}").state_dict()[kind]
                for i in (1, 2)
                for kind in ("weight", "bias")
            },
        }
        missing = theirs.load_state_dict(pairs, strict=False).missing_keys
        assert all(key.startswith("norm_cross_attn") for key in missing)
        tokens = theirs(tokens)
    expected = ours.norm(tokens)
    torch.testing.assert_close(ours.forward_features(volume()), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours(volume()), expected.mean(dim=1), atol=1e-5, rtol=1e-4)
    with torch.no_grad():  # where torch takes another path
        torch.testing.assert_close(ours(volume()), expected.mean(dim=1), atol=1e-5, rtol=1e-4)


def test_attention_is_torchs_fused_one():
    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.append(str(function))
            return function(*args, **(kwargs or {}))

    called = []
    with Calls():
        tiny().train()(volume())
    assert sum(name.startswith("aten._scaled_dot_product_") for name in called) == 2
    assert not any("softmax" in name for name in called)


def test_patches_are_cut_in_order():
    encoder = tiny()
    cut = encoder.patches(volume()).numpy()
    padded = np.zeros((25, 40, 40), np.float32)
    padded[: SHAPE[0], : SHAPE[1], : SHAPE[2]] = volume()[1, 0]
    assert cut.shape == (2, 125, 5 * 8 * 8)
    index = 0
    for z in range(0, 25, 5):
        for y in range(0, 40, 8):
            for x in range(0, 40, 8):
                np.testing.assert_array_equal(cut[1, index], padded[z : z + 5, y : y + 8, x : x + 8].ravel())
                index += 1


def test_the_papers_grid_has_1440_tokens_at_usual_positions():
    found = sincos_positions((150, 192, 192), (15, 16, 16), 192)
    assert found.shape == (1440, 192)
    torch.testing.assert_close(found, monai_positions((10, 12, 12), 192), atol=1e-6, rtol=0)


def test_positions_go_by_the_place_in_the_volume():
    coarse = sincos_positions((30, 40, 48), (15, 8, 8), 24)
    # Twice the resolution, patches of twice the size: the same places.
    torch.testing.assert_close(sincos_positions((60, 80, 96), (30, 16, 16), 24), coarse)
    # Thrice the resolution: the middle one of three patches lies where the coarse one does.
    fine = sincos_positions((90, 120, 144), (15, 8, 8), 24).reshape(6, 15, 18, 24)
    torch.testing.assert_close(fine[1::3, 1::3, 1::3].flatten(0, 2), coarse, atol=1e-5, rtol=1e-5)
    # Padding at the end moves nothing.
    whole = sincos_positions((30, 40, 48), (10, 10, 12), 24).reshape(3, 4, 4, 24)
    angle = torch.tensor([(10 * i + 5) / 25 * 10 - 0.5 for i in range(3)])
    padded = sincos_positions((25, 40, 48), (10, 10, 12), 24).reshape(3, 4, 4, 24)
    torch.testing.assert_close(padded[:, 0, 0, 0], angle.sin())
    assert torch.equal(padded[0, :, :, 8:], whole[0, :, :, 8:])


def test_every_token_has_its_own_position():
    positions = sincos_positions((150, 192, 192), (15, 16, 16), 192)
    distance = torch.cdist(positions, positions).fill_diagonal_(torch.inf)
    assert distance.min() > 0.1


@pytest.mark.parametrize("class_token", [False, True])
def test_the_encoder_sees_visible_patches_alone(class_token):
    encoder = tiny(class_token=class_token)
    visible = torch.tensor([[3, 60, 124, 7], [0, 1, 2, 50]])
    seen = []
    encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    x = volume().requires_grad_()
    tokens = encoder.forward_features(x, visible)
    assert tokens.shape == (2, 4, 24)
    assert seen == [(2, 4 + class_token, 24)]
    tokens.square().sum().backward()
    touched = encoder.patches(x.grad).abs().amax(dim=2) > 0
    expected = torch.zeros(2, 125, dtype=torch.bool).scatter(1, visible, True)
    assert torch.equal(touched, expected)
    with torch.no_grad():
        # In whatever order they are named, tokens are the same.
        torch.testing.assert_close(encoder.forward_features(x, visible.flip(1)), tokens.flip(1), atol=1e-5, rtol=1e-4)
        every = torch.arange(125).expand(2, -1)
        torch.testing.assert_close(encoder.forward_features(x, every), encoder.forward_features(x))


def test_class_token_or_mean():
    with_token = tiny(class_token=True)
    assert with_token.class_token.ndim == 1  # what weight decay leaves out
    assert with_token.forward_features(volume()).shape == (2, 125, 24)
    changed = with_token(volume())
    with torch.no_grad():
        with_token.class_token.copy_(torch.linspace(-1, 1, 24))
    assert not torch.allclose(with_token(volume()), changed, atol=1e-3)
    assert "class_token" not in tiny().state_dict()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 20, "n_heads": 2}, "multiple of 6 and of encoder.n_heads=2, got 20"),
        ({"width": 24, "n_heads": 5}, "multiple of 6 and of encoder.n_heads=5, got 24"),
        ({"n_layers": 0}, "encoder.n_layers"),
        ({"patch_size": (15, 0, 16)}, "encoder.patch_size"),
        ({"checkpoint_stages": 5}, "from 0 to 4, got 5"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(InputError, match=message):
        tiny(**wrong)
