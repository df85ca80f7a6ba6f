"""Others' published weights: features before and after import, and every tensor's fate."""

import argparse
import io
import re
import tarfile

import pytest
import torch
from monai.networks.nets.resnet import resnet18, resnet50
from monai.networks.nets.vit import ViT
from safetensors.torch import save_file
from torch import nn

from neuro_ssl.checkpoint import Weights
from neuro_ssl.encoders.monai_vit import MonaiViT
from neuro_ssl.encoders.published import import_published, table
from neuro_ssl.encoders.published_resnet import PublishedResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from tests.encoders.published_files import MedicalNet, keyed, narrow, resnet50_of_brainiac, settled, unet, vit
from tests.encoders.tiny import over

SHAPE = (24, 30, 36)
POOL = nn.AdaptiveAvgPool3d(1)


def written(folder, content, name="weights.pt"):
    torch.save(content, folder / name)
    return folder / name


def volume(*shape):
    """In float64, where another order of sums doesn't show."""
    return torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def features(file, x, **options):
    """Through the folder that is written of it, too."""
    weights = Weights.of_published(file, import_published(file, **options))
    folder = file.parent / f"{file.stem} imported"
    weights.save(folder)
    with torch.no_grad():
        found = weights.build_encoder().eval().double()(x)
        again = Weights.load(str(folder))
        assert again.name == weights.name and again.contract == weights.contract
        assert torch.equal(again.build_encoder().eval().double()(x), found)
    assert found.std() > 1e-3
    return found


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def simclr_state(network, parallel, tuned):
    heads = {"head.weight": torch.zeros(1, 64), "head.bias": torch.zeros(1)}
    projector = {"projector.0.weight": torch.zeros(64, 64), "projector.2.weight": torch.zeros(8, 64)}
    state = {**keyed(network.state_dict(), "encoder."), **(heads if tuned else projector)}
    return {"epoch": 3, "model_state_dict": keyed(state, parallel=parallel), "optimizer_state_dict": {"state": {}}}


@pytest.mark.parametrize(("parallel", "tuned"), [(False, False), (True, True)])
def test_neuro_simclr(tmp_path, parallel, tuned):
    network = settled(narrow(), *SHAPE)
    file = written(tmp_path, simclr_state(network, parallel, tuned), "simclr_3d_brain_foundation.tar")
    published = import_published(file)
    assert published.layout.name == "neuro_simclr"
    assert set(published.dropped.values()) == {"head of the fine-tuned task" if tuned else "contrastive projector"}
    assert len(published.dropped) == 2 and not published.filled
    with torch.no_grad():
        close(features(file, volume(*SHAPE)), network.double()(volume(*SHAPE)))


def test_a_tar_with_the_checkpoint_in_it(tmp_path):
    network = settled(narrow(), *SHAPE)
    inner = written(tmp_path, simclr_state(network, False, False), "checkpoint.pt")
    archive = tmp_path / "simclr_3d_brain_foundation.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(inner, "simclr/checkpoint.pt")
        tar.add(inner, "simclr/._checkpoint.pt")  # as a Mac leaves it
    with torch.no_grad():
        close(features(archive, volume(*SHAPE)), network.double()(volume(*SHAPE)))
    with tarfile.open(archive, "a") as tar:
        tar.add(inner, "simclr/other.pt")
    with pytest.raises(InputError, match="archive of 2 files: extract it"):
        import_published(archive)


def transposed(x):
    """(z, y, x), this package's, as MONAI's readers load it."""
    return x.permute(0, 1, 4, 3, 2)


def test_brainiac_v1(tmp_path):
    network = settled(resnet50_of_brainiac(), *SHAPE)
    state = {**keyed(network.state_dict(), "backbone."), "projection.weight": torch.zeros(2, 2)}
    file = written(tmp_path, {"state_dict": state})
    published = import_published(file)
    assert published.layout.name == "brainiac_v1"
    assert published.dropped == {"projection.weight": "outside of backbone.*, and so no part of the encoder"}
    x = volume(*SHAPE)
    with torch.no_grad():
        close(features(file, x), network.double()(transposed(x)))
    contract = Weights.load(str(file)).contract
    assert (contract.shape, contract.intensity) == ((128, 128, 128), "min_max")


@pytest.mark.parametrize("pooling", [None, "first"])
def test_brainiac_v2(tmp_path, pooling):
    network = vit().eval()
    state = keyed(network.state_dict(), "backbone.")
    if pooling:  # older MONAI has no norm of cross attention
        state = {name: value for name, value in state.items() if "norm_cross_attn" not in name}
    file = written(tmp_path, {"state_dict": state})
    published = import_published(file)
    assert published.layout.name == "brainiac_v2" and len(published.dropped) == (0 if pooling else 4)
    x = volume(32, 32, 32)
    with torch.no_grad():
        tokens, _ = network.double()(transposed(x))
    options = {"pooling": pooling} if pooling else {}
    close(features(file, x, **options), tokens[:, 0] if pooling else tokens.mean(dim=1))


def test_learned_positions_are_of_one_shape(tmp_path):
    encoder = Weights.load(str(written(tmp_path, {"state_dict": keyed(vit().state_dict(), "backbone.")})))
    with pytest.raises(InputError, match="volumes of 32×32×32 voxels .* alone, got 32×32×48"):
        encoder.build_encoder()(volume(32, 32, 48))


@over(["resenc_l"])
def test_openmind(tmp_path, name):
    network = unet().eval()
    content = {
        "network_weights": network.state_dict(),
        "nnssl_adaptation_plan": {"architecture_name": "ResEncL"},
        "init_args": {},
        "trainer_name": "BaseMAETrainer",
    }
    file = written(tmp_path, content)
    published = import_published(file)
    assert published.layout.name == "openmind_resenc_l" and published.encoder["blocks"] == [1, 2, 1]
    assert len(published.state) + len(published.dropped) == len(network.state_dict())
    assert set(published.dropped) <= set(network.state_dict())
    x = volume(12, 16, 20)
    with torch.no_grad():
        close(features(file, x), POOL(network.double().encoder(x)[-1]).flatten(1))


@pytest.mark.parametrize(("layers", "shortcut"), [((1, 1, 1, 1), "B"), ((2, 2, 2, 2), "A")])
def test_medicalnet(tmp_path, layers, shortcut):
    network = settled(MedicalNet(layers, shortcut), *SHAPE)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}  # an old torch's
    file = written(tmp_path, {"state_dict": keyed(state, parallel=True)})
    published = import_published(file)
    assert published.layout.name == "medicalnet"
    assert set(published.dropped.values()) == {"decoder of the segmentation"} and published.filled
    x = volume(*SHAPE)
    with torch.no_grad():
        close(features(file, x), POOL(network.double().maps(x)).flatten(1))
        weights = Weights.load(str(file))
        encoder = weights.build_encoder().eval().double()
        assert encoder.forward_features(x).shape[2:] == network.maps(x).shape[2:] == encoder.feature_shape(SHAPE)


@pytest.mark.parametrize(
    "options", [{}, {"shortcut_type": "A"}, {"bias_downsample": False}], ids=["B with bias", "A", "B without"]
)
def test_plain_monai(tmp_path, options):
    network = settled(narrow(**options), *SHAPE)
    file = tmp_path / "weights.safetensors"
    save_file({**network.state_dict(), "fc.weight": torch.zeros(4, 64), "fc.bias": torch.zeros(4)}, file)
    published = import_published(file)
    assert published.layout.name == "monai_resnet" and published.dropped == {"fc.weight": "classifier"} | {
        "fc.bias": "classifier"
    }
    with torch.no_grad():
        close(features(file, volume(*SHAPE)), network.double()(volume(*SHAPE)))


def test_shortcuts_of_kind_a_pass_gradients(tmp_path):
    file = written(tmp_path, narrow(shortcut_type="A").state_dict())
    encoder = Weights.load(str(file)).build_encoder().eval()
    for stage in (encoder.layer2, encoder.layer3, encoder.layer4):  # nothing but the shortcuts are left
        nn.init.zeros_(stage[0].bn2.weight)
        nn.init.zeros_(stage[1].bn2.weight)
    encoder(volume(*SHAPE).float()).sum().backward()
    assert encoder.conv1.weight.grad.abs().max() > 0


FULL = {
    "neuro_simclr": (lambda: resnet18(spatial_dims=3, n_input_channels=1, feed_forward=False), "encoder.", 512),
    "brainiac_v1": (lambda: resnet50(spatial_dims=3, n_input_channels=1, feed_forward=False), "backbone.", 2048),
    "brainiac_v2": (
        lambda: ViT(1, (96,) * 3, (16,) * 3, hidden_size=768, mlp_dim=3072, num_layers=12, num_heads=12),
        "backbone.",
        768,
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_full_size(name):
    """On the meta device: the constructors' own sizes are read off the shapes."""
    from neuro_ssl.encoders.layouts import LAYOUTS
    from neuro_ssl.modules import build_module

    make, prefix, embed_dim = FULL[name]
    with torch.device("meta"):
        network = make()
        layout = next(layout for layout in LAYOUTS if layout.name == name)
        encoder = build_module(layout.encoder(network.state_dict()))
        theirs = {k: v.shape for k, v in network.state_dict().items() if "norm_cross_attn" not in k}
        assert {k: v.shape for k, v in encoder.state_dict().items()} == theirs
        assert encoder.embed_dim == embed_dim and layout.prefix == prefix
        contract = layout.contract(layout.encoder(network.state_dict()))
        contract.check(Grid.named(contract.grid), "own")  # the grid that it names is one that it accepts
        assert encoder(torch.empty(1, 1, *Grid.named(contract.grid).shape)).shape == (1, embed_dim)
        assert getattr(encoder, "embed_dim", None) != 768 or encoder.blocks[0].attn.num_heads == 12


@pytest.mark.slow
def test_brainiac_v2_at_full_size(tmp_path):
    network = vit(768, 96, 12).eval()
    file = written(tmp_path, {"state_dict": keyed(network.state_dict(), "backbone.")})
    x = volume(96, 96, 96)[:1]
    with torch.no_grad():
        close(features(file, x), network.double()(transposed(x))[0].mean(dim=1))


def test_a_mismatch_names_the_layer_and_both_shapes(tmp_path):
    state = narrow().state_dict()
    state["layer3.0.conv2.weight"] = torch.zeros(32, 32, 1, 1, 1)
    with pytest.raises(
        InputError, match=r"1 tensors.*layer3.0.conv2.weight: shape \(32, 32, 1, 1, 1\) in the file, .*3, 3, 3"
    ):
        import_published(written(tmp_path, state))
    state = narrow().state_dict() | {"layer9.weight": torch.zeros(2)}
    with pytest.raises(InputError, match=r"layer9.weight: shape \(2,\) in the file, missing in the encoder"):
        import_published(written(tmp_path, state))
    del state["layer9.weight"], state["bn1.running_mean"]
    with pytest.raises(InputError, match=r"bn1.running_mean: shape missing in the file, \(8,\) in the encoder"):
        import_published(written(tmp_path, state))
    del state["layer4.1.conv1.weight"]
    with pytest.raises(InputError, match="layer4.1.conv1.weight: shape missing"):
        import_published(written(tmp_path, state | {"bn1.running_mean": torch.zeros(8)}))


@over(["resenc_l"])
def test_two_names_of_one_tensor_must_agree(tmp_path, name):
    state = {name: value.clone() for name, value in unet().state_dict().items()}
    state["encoder.stem.convs.0.all_modules.0.weight"] += 1
    with pytest.raises(InputError, match="are one tensor of the encoder, and differ"):
        import_published(written(tmp_path, {"network_weights": state}))


class Harm:
    """What a hostile file does when it is unpickled."""

    ran = False

    def __reduce__(self):
        return setattr, (Harm, "ran", True)


def test_what_needs_unpickling_is_refused(tmp_path):
    state = simclr_state(settled(narrow(), *SHAPE), False, False)
    file = written(tmp_path, state | {"args": Harm()})
    with pytest.raises(InputError, match=r"more than tensors and plain containers \(Unsupported .*--trust"):
        import_published(file)
    with pytest.raises(InputError, match="--trust"):
        Weights.load(str(file))
    assert not Harm.ran
    file = written(tmp_path, state | {"args": argparse.Namespace(lr=1)})
    with pytest.raises(InputError, match=r"argparse.Namespace\)"):
        import_published(file)
    assert import_published(file, trust=True).layout.name == "neuro_simclr"


def test_other_files(tmp_path):
    nothing = tmp_path / "nothing.pt"
    for content in (b"", b"hello", b"<html>"):
        nothing.write_bytes(content)
        with pytest.raises(InputError, match=r"nothing.pt cannot be read as a checkpoint"):
            import_published(nothing)
    whole = io.BytesIO()
    torch.save(narrow().state_dict(), whole)
    nothing.write_bytes(whole.getvalue()[:-100])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        import_published(nothing)
    with pytest.raises(InputError, match="absent.pt cannot be read"):
        import_published(tmp_path / "absent.pt")
    with pytest.raises(InputError, match="holds no tensors by name: epoch is a int"):
        import_published(written(tmp_path, {"epoch": 1}))
    with pytest.raises(InputError, match="holds no tensors by name"):
        import_published(written(tmp_path, {"state_dict": {}}))
    own = {"state_dict": keyed(narrow().state_dict(), "encoder."), "pytorch-lightning_version": "2.6"}
    with pytest.raises(InputError, match="no published weights known here .*give the run directory"):
        import_published(written(tmp_path, own))
    with pytest.raises(InputError, match="pooling is no choice of these weights"):
        import_published(written(tmp_path, narrow().state_dict()), pooling="first")


def test_the_table_counts_every_tensor(tmp_path):
    state = simclr_state(narrow(), False, True)
    text = table(import_published(written(tmp_path, state)))
    n = len(state["model_state_dict"]) - 2
    assert re.search(
        rf"loaded +{n} tensors, [\d.]+ M numbers\n +dropped +head.weight, head.bias: head .*\n +missing +none", text
    )


def test_layout_by_name(tmp_path):
    """What keys don't tell: MedicalNet's tensors alone look like MONAI's."""
    file = written(tmp_path, settled(MedicalNet((1, 1, 1, 1), "B"), *SHAPE).state_dict())
    published = import_published(file, layout="medicalnet")
    assert published.encoder["dilated"] and published.encoder["stem_stride"] == 2
    with pytest.raises(InputError, match="layout must be one of neuro_simclr, .*, got 'resnet'"):
        import_published(file, layout="resnet")


@pytest.mark.parametrize("name", ["vit", "medicalnet A", "medicalnet B"])
def test_the_encoders_keep_the_contract(name):
    """Of `Encoder`: gradients for every parameter, depth groups that hold each once, recomputed activations."""
    torch.manual_seed(0)
    encoder = {
        "vit": lambda: MonaiViT((32, 32, 32), 16, 12, 2, 2, 24),
        "medicalnet A": lambda: PublishedResNet3D(10, 8, 2, "A", False, True),
        "medicalnet B": lambda: PublishedResNet3D(10, 8, 2, "B", False, True),
    }[name]().train()
    x = torch.randn(2, 1, 32, 32, 32)
    encoder(x).square().sum().backward()
    plain = {name: p.grad for name, p in encoder.named_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in plain.values())
    assert len({id(p) for group in encoder.depth_groups() for p in group}) == len(plain)
    assert sum(map(len, encoder.depth_groups())) == len(plain)
    encoder.zero_grad()
    encoder.recompute_first(2)
    encoder(x).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name], atol=1e-4, rtol=1e-3)
