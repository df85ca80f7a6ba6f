"""The contract that every encoder of `conf/encoder` keeps, at a tiny size."""

import io
from pathlib import Path

import pytest
import torch
from torch import nn

from neuro_ssl.checkpoint import Weights
from neuro_ssl.config import build
from neuro_ssl.encoders import Encoder
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from tests.encoders.tiny import FAMILIES, SHAPE, TINY, node, over, settled, tiny, volume
from tests.test_configs import CONF

# features; millions of parameters as MONAI, the papers or nnU-Net build them, without their heads
FULL = {
    "resnet10": (512, 14.4),
    "resnet18": (512, 33.2),
    "resnet34": (512, 63.5),
    "resnet50": (2048, 46.2),
    "densenet121": (1024, 11.2),
    "sfcn": (64, 2.95),
    "vit_tiny": (192, 6.1),
    "vit_small": (384, 22.8),
    "vit_base": (768, 88.0),
    "resenc_l": (320, 90.3),
}


def test_every_encoder_is_tested():
    assert {file.stem for file in (CONF / "encoder").glob("*.yaml")} == set(TINY) == set(FULL)


@over(FULL)
def test_full_size_at_the_grids_in_use(name):
    """On the meta device, which computes shapes alone."""
    embed_dim, millions = FULL[name]
    with torch.device("meta"):
        encoder = build(node(name))
        assert isinstance(encoder, Encoder)
        assert encoder.embed_dim == embed_dim
        assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)
        for grid in ("paper_1mm", "4mm"):
            shape = Grid.named(grid).shape
            encoder.check_grid(shape)
            assert encoder(torch.empty(2, 1, *shape)).shape == (2, embed_dim)


@over(TINY)
def test_gradients_reach_every_parameter(name):
    encoder = tiny(name).train()
    features = encoder(volume())
    assert features.shape == (2, encoder.embed_dim)
    features.square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        if parameter.ndim > 1:  # (a bias before a norm has no effect)
            assert parameter.grad.abs().max() > 1e-6, parameter_name


@over(TINY)
def test_feature_maps_of_odd_sizes(name):
    encoder = tiny(name).eval()
    with torch.no_grad():
        for shape in (SHAPE, (33, 25, 40)):
            maps = encoder.forward_features(volume(2, shape))
            expected = encoder.feature_shape(shape)
            if name.startswith("vit"):
                assert maps.shape == (2, torch.tensor(expected).prod(), encoder.embed_dim)
            else:
                assert maps.shape == (2, encoder.embed_dim, *expected)
                torch.testing.assert_close(encoder(volume(2, shape)), maps.flatten(2).mean(dim=2))


@over(TINY)
def test_a_batch_of_one(name):
    assert tiny(name).train()(volume(1)).isfinite().all()
    encoder = settled(name)
    with torch.no_grad():
        torch.testing.assert_close(encoder(volume(3))[1:2], encoder(volume(3)[1:2]), atol=1e-3, rtol=1e-3)


@over(FAMILIES)
def test_the_smallest_volume_is_declared(name):
    encoder = tiny(name).eval()
    least = encoder.min_shape
    with torch.no_grad():
        assert encoder(volume(1, least)).isfinite().all()
    for axis in range(3):
        smaller = [n - (i == axis) for i, n in enumerate(least)]
        with pytest.raises(InputError, match="at least .* voxels"):
            encoder.check_grid(smaller)
    with pytest.raises(InputError, match=r"volumes \(batch, 1, z, y, x\), got the shape \(2, 3, "):
        encoder(volume().expand(-1, 3, -1, -1, -1))
    with pytest.raises(InputError, match="got the shape"):
        encoder(volume()[0])


@over(FAMILIES)
def test_batch_norm_of_one_value_is_refused_before_torch_fails(name):
    encoder = tiny(name).train()
    least = volume(1, encoder.min_shape)
    if any(isinstance(module, nn.BatchNorm3d) for module in encoder.modules()):
        with pytest.raises(InputError, match="batch norm cannot train on a single volume"):
            encoder(least)
        assert encoder(volume(2, encoder.min_shape)).isfinite().all()
    else:
        assert encoder(least).isfinite().all()


@over(TINY)
def test_depth_groups_hold_every_parameter_once_from_input_to_output(name):
    encoder = tiny(name)
    group_of = {id(p): depth for depth, group in enumerate(encoder.depth_groups()) for p in group}
    assert sum(map(len, encoder.depth_groups())) == len(group_of) == len(list(encoder.parameters()))
    visited = []
    for module in encoder.modules():
        if own := list(module.parameters(recurse=False)):
            groups = {group_of[id(p)] for p in own}
            module.register_forward_pre_hook(lambda _, __, groups=groups: visited.append(groups))
    encoder.train()(volume())
    order = [depth for (depth,) in visited]
    assert order == sorted(order)
    assert order[0] == 0 and order[-1] == len(encoder.depth_groups()) - 1 > 1


@over(TINY)
def test_bfloat16_autocast(name):
    """Features, and gradients of the last two parameters, are float32's but for rounding, which grows on the way back.

    (No map is 2 deep: for those, torch 2.13's bfloat16 convolutions of 3³ return wrong weight gradients on the CPU. And
    statistics of few values, as of batch norm here, would make deep networks sensitive to any rounding.)
    """
    encoder = settled(name, **({"norm": "group", "stem_stride": 1} if name.startswith("resnet") else {}))
    x = volume(2, (33, 20, 22))
    exact = encoder(x)
    exact.square().sum().backward()
    last = encoder.depth_groups()[-1][-2:]
    gradients = [parameter.grad for parameter in last]
    encoder.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = encoder(x)
        rough.float().square().sum().backward()
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in encoder.parameters())
    for parameter, gradient in zip(last, gradients, strict=True):
        assert (parameter.grad - gradient).norm() < 0.25 * gradient.norm() + 1e-3


@over(TINY)
def test_a_checkpoint_restores_it(name):
    """Through a file and the package's own reading of a run's weights."""
    encoder = settled(name)
    file = io.BytesIO()
    torch.save(encoder.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    weights = Weights("run", Path("run"), {}, node(name, **TINY[name]), state)
    restored = weights.build_encoder().eval()
    with torch.no_grad():
        assert torch.equal(restored(volume()), encoder(volume()))


def compiled_equals_plain(name, backend, **parameters):
    encoder = tiny(name, **parameters).train()
    plain = tiny(name).train()
    keys = list(encoder.state_dict())
    torch._dynamo.reset()
    encoder.compile(backend=backend, fullgraph=True)
    for network in (plain, encoder):
        network(volume()).square().sum().backward()
    for (parameter_name, ours), theirs in zip(encoder.named_parameters(), plain.parameters(), strict=True):
        scale = theirs.grad.abs().max() + 1e-2
        assert (ours.grad - theirs.grad).abs().max() < 1e-3 * scale, parameter_name
    for ours, theirs in zip(encoder.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert list(encoder.state_dict()) == keys


@pytest.mark.parametrize(
    ("name", "parameters"), [("sfcn", {"channels": [4, 4]}), ("vit_small", {"n_layers": 1})], ids=["sfcn", "vit_small"]
)
def test_compiles_whole(name, parameters, monkeypatch):
    monkeypatch.setitem(TINY, name, TINY[name] | parameters)
    compiled_equals_plain(name, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_stages", [0, 2])
@over(TINY)
def test_compiles_whole_with_its_backward_pass(name, checkpoint_stages):
    compiled_equals_plain(name, "aot_eager", checkpoint_stages=checkpoint_stages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10", "sfcn", "vit_small"])
def test_compiles_to_machine_code(name):
    compiled_equals_plain(name, "inductor")
