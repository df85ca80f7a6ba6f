"""The Python API on four real heads: features of NIfTI files are those that training saw."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import neuro_ssl
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.supervised import Supervised
from tests.conftest import IXI

NAMES = ["IXI206-HH-1650", "IXI383-HH-2099", "IXI443-HH-2215", "IXI527-HH-2376"]
IMAGES = [IXI / f"{name}_T1.nii.gz" for name in NAMES]
MASKS = [IXI / "masks" / f"{name}_mask.nii.gz" for name in NAMES]


def training_features(run, store):
    """By the path of training: the stored volumes, through the task."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    encoder = ResNet3D(width=8)
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in checkpoint.items() if k.startswith("encoder.")})
    task = Supervised(encoder, None, Optimizer(), 0, False, 0.0, 1.0, "age_years")
    by_image = store.manifest.set_index("image_path")["volume"]
    volumes = np.stack([store.read(by_image[str(image)]) for image in IMAGES])
    return task.extract(torch.from_numpy(volumes)[:, None]).numpy()


@pytest.mark.parametrize("batch_size", [3, 8])
def test_features_are_those_of_training(pretrained, real_brains, batch_size):
    expected = training_features(pretrained, VolumeStore.find(real_brains / "stores" / "ixi", "8mm"))
    found = neuro_ssl.embed_files(pretrained, IMAGES, masks=MASKS, batch_size=batch_size)
    assert found.shape == (4, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 1e-3  # the heads differ
    order = [2, 0]
    again = neuro_ssl.embed_files(str(pretrained), [str(IMAGES[i]) for i in order], masks=[MASKS[i] for i in order])
    np.testing.assert_allclose(again, expected[order], atol=1e-5)


def test_without_masks_deepbet_finds_the_brain(pretrained):
    """The masks beside the heads were made by deepbet: the features agree."""
    given = neuro_ssl.embed_files(pretrained, IMAGES[:1], masks=MASKS[:1])
    np.testing.assert_allclose(neuro_ssl.embed_files(pretrained, IMAGES[:1]), given, atol=1e-5)


def test_the_encoder_carries_its_contract(pretrained):
    encoder = neuro_ssl.load_encoder(pretrained)
    assert not any(module.training for module in encoder.modules())
    contract = encoder.input_contract
    assert contract.grid == Grid.named("8mm")
    assert contract.brain_extraction == "mask"
    assert contract.preprocessing["brain_extraction"] == "mask"
    assert "white matter = 1" in contract.intensity
    assert contract.axes.startswith("(z, y, x)")
    volume = torch.zeros(2, 1, *contract.grid.shape)
    assert encoder(volume).shape == (2, encoder.embed_dim)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "nowhere"}, "weights=nowhere is not a run directory"),
        ({"paths": [IXI / "absent.nii.gz"], "masks": None}, "absent.nii.gz: no such file"),
        ({"masks": MASKS[:3]}, "4 images and 3 masks"),
        ({"paths": IMAGES[0]}, "must be lists of files"),
        ({"masks": str(MASKS[0])}, "must be lists of files"),
        ({"paths": [], "masks": None}, "paths is empty"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_one_clear_error(pretrained, change, message):
    arguments = {"weights": pretrained, "paths": IMAGES, "masks": MASKS} | change
    with pytest.raises(InputError, match=message):
        neuro_ssl.embed_files(arguments.pop("weights"), arguments.pop("paths"), **arguments)


def edited(run, tmp_path, file, *keys, value):
    """A copy of a run in which one value of a YAML file is another."""
    copy = shutil.copytree(run, tmp_path / "copy")
    content = node = yaml.safe_load((copy / file).read_text())
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (copy / file).write_text(yaml.safe_dump(content))
    return copy


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("run.yaml", ["config", "encoder", "_target_"], "neuro_ssl.encoders.resnet3d.Gone", "cannot be built .*Gone"),
        ("run.yaml", ["config", "encoder", "_target_"], "neuro_ssl.gone.ResNet3D", "cannot be built .*gone"),
        ("run.yaml", ["config", "encoder", "dropout"], 0.1, "cannot be built .*dropout"),
        ("run.yaml", ["config", "encoder", "width"], 16, "do not fit the encoder"),
        ("run.yaml", ["dataset", "preprocessing", "version"], 0, "preprocessed as .*'version': 0"),
        ("run.yaml", ["status"], "running", "unfinished"),
    ],
)
def test_weights_of_another_version(pretrained, tmp_path, file, keys, value, message):
    with pytest.raises(InputError, match=message):
        neuro_ssl.load_encoder(edited(pretrained, tmp_path, file, *keys, value=value))


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, neuro_ssl; assert 'torch' not in sys.modules; assert not hasattr(neuro_ssl, 'embeds')"
    subprocess.run([sys.executable, "-c", code], check=True)
