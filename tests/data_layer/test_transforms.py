"""Users' transforms are random by (seed, epoch, draw) alone, and what they make stays a volume; on real brains."""

import random

import monai.transforms as mt
import numpy as np
import pytest
import torch
import torchio

from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.samplers import Draw
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.transforms import ScanTransform
from neuro_ssl.errors import InputError
from neuro_ssl.run import RunDirectory
from neuro_ssl.run_names import run_name


@pytest.fixture(scope="module")
def store(real_brains):
    return VolumeStore.find(real_brains / "stores" / "ixi", "8mm")


@pytest.fixture
def volume(store):
    return store.read(store.manifest["volume"][0])


class FromGlobalState(mt.Transform):
    """As users write them: numpy's and Python's generators, whatever their state is."""

    def __call__(self, volume):
        return volume * np.random.uniform(0.5, 2) + volume * random.uniform(0, 1) * torch.rand(volume.shape)  # noqa: NPY002


RANDOM = {
    "torchio": torchio.Compose([torchio.RandomAffine(), torchio.OneOf([torchio.RandomNoise(), torchio.RandomBlur()])]),
    "monai array": mt.Compose([mt.RandGaussianNoise(prob=0.9), mt.RandAdjustContrast(prob=0.9)]),
    "monai dictionary": mt.Compose(
        [
            mt.RandAffined(
                ["t1", "brain"], prob=1.0, rotate_range=[0.2] * 3, mode=["bilinear", "nearest"], padding_mode="zeros"
            ),
            mt.RandGaussianNoised(["t1"], prob=0.9),
        ]
    ),
    "global state": FromGlobalState(),
}


def epochs(store, transform, num_workers, seed=0):
    """Two epochs of what the training process is given; the loader's workers live on between them."""
    datamodule = SSLDataModule(store, batch_size=1, num_workers=num_workers, seed=seed, transform=transform)
    loader = datamodule.train_dataloader()
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches.append({int(batch["scan"]): batch["volume"][0, 0] for batch in loader})
    return batches


@pytest.mark.parametrize("name", RANDOM)
def test_batches_are_the_same_with_any_number_of_workers_and_no_two_epochs_are(store, name):
    torch.manual_seed(1)
    first, second = epochs(store, RANDOM[name], 0)
    for num_workers in (1, 2):
        torch.manual_seed(num_workers)
        random.seed(num_workers)
        np.random.seed(num_workers)  # noqa: NPY002
        for ours, theirs in zip((first, second), epochs(store, RANDOM[name], num_workers), strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[scan], theirs[scan]) for scan in ours)
    assert not any(torch.equal(first[scan], second[scan]) for scan in first)
    another, _ = epochs(store, RANDOM[name], 0, seed=1)
    assert not any(torch.equal(first[scan], another[scan]) for scan in first)


@pytest.mark.parametrize("name", RANDOM)
def test_it_depends_on_the_draw_and_leaves_the_generators_alone(store, volume, name):
    transform = ScanTransform(RANDOM[name], store.grid, 7)
    torch.manual_seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    once = transform(volume, Draw(0, 2, 5))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    for other in (Draw(0, 2, 6), Draw(0, 3, 5)):  # a scan drawn twice in an epoch has two positions
        assert not np.array_equal(transform(volume, other), once)
    np.testing.assert_array_equal(transform(volume, Draw(3, 2, 5)), once)  # the dataset's row has no part in it


@pytest.mark.parametrize("name", RANDOM)
def test_what_comes_back_is_a_volume(store, volume, name):
    changed = ScanTransform(RANDOM[name], store.grid, 0)(volume, Draw(0, 0, 1))
    assert changed.dtype == np.float32 and changed.shape == volume.shape and np.isfinite(changed).all()
    overlap = 2 * np.sum((changed > 0) & (volume > 0)) / (np.sum(changed > 0) + np.sum(volume > 0))
    assert (changed >= 0).all() and (overlap == 1 if name in ("monai array", "global state") else 0.5 < overlap < 1)


def test_a_transform_sees_axes_and_millimetres_as_in_a_nifti_file(store, volume):
    seen = {}

    class Look(torchio.Transform):
        def apply_transform(self, subject):
            seen.update(subject)
            return subject

    np.testing.assert_array_equal(ScanTransform(Look(), store.grid, 0)(volume, Draw(0, 0, 0)), volume)
    assert seen["t1"].orientation == ("R", "A", "S") and seen["t1"].spacing == (8.0, 8.0, 8.0)
    np.testing.assert_array_equal(seen["t1"].affine, store.grid.affine)
    np.testing.assert_array_equal(seen["t1"].data[0, 3, 5, 7], volume[7, 5, 3])
    np.testing.assert_array_equal(seen["brain"].data[0].numpy(), volume.T > 0)
    for flip in (torchio.Flip("Left"), mt.Flipd(["t1", "brain"], spatial_axis=0)):
        flipped = ScanTransform(flip, store.grid, 0)(volume, Draw(0, 0, 0))
        np.testing.assert_array_equal(flipped, volume[:, :, ::-1])


def test_a_brain_that_is_no_longer_positive_is_shifted_alone(store, volume):
    inside = volume > 0
    brain = volume[inside].astype(np.float64)
    expected = (brain - brain.mean()) / brain.std()
    for standard in (torchio.ZNormalization(masking_method="brain"), mt.NormalizeIntensity(nonzero=True)):
        changed = ScanTransform(standard, store.grid, 0)(volume, Draw(0, 0, 0))
        np.testing.assert_array_equal(changed > 0, inside)
        again = (changed[inside] - changed[inside].mean(dtype=float)) / changed[inside].std(dtype=float)
        np.testing.assert_allclose(again, expected, atol=1e-5)


def test_validation_scans_stay_as_they_are(store):
    datamodule = SSLDataModule(store, batch_size=1, transform=torchio.RandomNoise(std=1))
    (batch,) = datamodule.val_dataloader()
    expected = store.read(store.manifest["volume"][int(batch["scan"])])
    np.testing.assert_array_equal(batch["volume"][0, 0].numpy(), expected)


class Bad(torchio.Transform):
    """Does to the image what its argument says."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def apply_transform(self, subject):
        self.change(subject)
        return subject


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda: torch.nn.Identity(), "a TorchIO or a MONAI transform is needed .* got Identity"),
        (lambda: "torchio.RandomBlur", "got str"),
        (lambda: mt.Compose([mt.RandGaussianNoise(), abs]), "got builtin_function_or_method inside Compose"),
        (lambda: mt.Compose([mt.RandGaussianNoise(), mt.RandGaussianNoised("t1")]), "mixes MONAI's array and"),
        (lambda: mt.RandFlip(), "RandFlip moves voxels.*keys=.t1, brain."),
        (lambda: mt.Compose([mt.RandZoomd("t1")]), "RandZoomd moves voxels"),
        (lambda: mt.RandGaussianNoised("image"), "keys of RandGaussianNoised are t1 and brain, got {'image'}"),
        (lambda: torchio.CropOrPad(8), r"makes t1 of shape \(1, 24, 24, 19\) .* one of \(1, 8, 8, 8\); use"),
        (lambda: mt.CenterSpatialCropd(["t1", "brain"], 8), r"one of \(1, 8, 8, 8\)"),
        (lambda: torchio.RandomAffine(translation=(500, 501)), "leaves no brain"),
        (lambda: torchio.Lambda(lambda x: x * float("nan"), ["intensity"]), "makes voxels NaN or infinite"),
        (lambda: Bad(lambda subject: subject.remove_image("brain")), "fails on IXI.*: KeyError"),
        (lambda: mt.RandCropByPosNegLabel((4, 4, 4), num_samples=2), "RandCropByPosNegLabel moves voxels"),
    ],
)
def test_what_cannot_be_used_is_refused_before_training(store, transform, message):
    with pytest.raises(InputError, match=message):
        SSLDataModule(store, batch_size=1, transform=transform())


def train(command, data, runs, *options):
    command(
        *("train", "+experiment=simclr_pretrain", "dataset=csv", "dataset.cohort=ixi", "grid=8mm", "strategy=cpu"),
        *("encoder.width=8", "logger=csv", "num_workers=0", "batch_size=2", "trainer.max_epochs=1"),
        *(f"data_dir='{data}'", f"runs_dir='{runs}'", *options),
    )


def test_the_command_takes_one_and_names_the_run_by_it(real_brains, store, command, tmp_path):
    noise = ["+dataset.transform._target_=torchio.RandomNoise", "+dataset.transform.std=[0.2,0.3]"]
    train(command, real_brains, tmp_path, *noise)
    (run,) = tmp_path.glob("simclr_pretrain-*")
    config = RunDirectory(run).record["config"]
    assert config["dataset"]["transform"] == {"_target_": "torchio.RandomNoise", "std": [0.2, 0.3]}
    names = [run.name]
    for other in ({**config["dataset"]["transform"], "std": [0.2, 0.4]}, None):
        changed = {**config, "dataset": {**config["dataset"], "transform": other}}
        names.append(run_name("simclr", changed, store.identity, None))
    assert run_name("simclr", config, store.identity, None) == run.name and len(set(names)) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["+dataset.transform._target_=torchio.RandomBlurr"], "RandomBlurr"),
        (["+dataset.transform._target_=torchio.RandomBlur", "+dataset.transform.sd=2"], "sd"),
        (["dataset.transform=torchio.RandomBlur"], "a TorchIO or a MONAI transform is needed"),
        (["+dataset.transform._target_=torch.nn.Identity"], "got Identity"),
        (
            ["+dataset.transform._target_=torchio.RandomBlur", "frozen=true", "views=none"],
            "leave dataset.transform out",
        ),
    ],
)
def test_the_command_refuses_before_training(real_brains, command, tmp_path, capsys, options, says):
    with pytest.raises(SystemExit) as stop:
        train(command, real_brains, tmp_path, *options)
    shown = capsys.readouterr().err
    assert stop.value.code == 1 and shown.count("error: ") == 1 and says in shown
    assert not list(tmp_path.iterdir())
