"""`python -m neuro_ssl.explain` on four real heads, through its real entry point."""

import dataclasses
import json
import shutil
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.environment import command_line
from neuro_ssl.explain import METHODS
from neuro_ssl.explaining import explanation, methods
from neuro_ssl.explaining.explanation import Explanation
from neuro_ssl.explaining.making import Maker
from neuro_ssl.explaining.models import ExplainedModel
from neuro_ssl.grid import Grid
from tests.conftest import IXI, run_command

ON_IXI = ("dataset=csv", "dataset.cohort=ixi", "grid=8mm")


@pytest.fixture(scope="module")
def age_run(real_brains, pretrained, tmp_path_factory):
    """A linear probe of age."""
    runs = tmp_path_factory.mktemp("age")
    run_command(
        "train",
        *("+experiment=linear_probe", "task=brain_age", f"weights='{pretrained}'", *ON_IXI, "strategy=cpu"),
        *("logger=csv", "num_workers=0", "trainer.max_epochs=3", f"data_dir='{real_brains}'", f"runs_dir='{runs}'"),
    )
    (run,) = runs.glob("linear_probe-*")
    return run


@pytest.fixture
def arguments(age_run, real_brains, tmp_path):
    """Of an explanation of the probe."""
    where = (f"data_dir='{real_brains}'", f"runs_dir='{tmp_path / 'runs'}'", "device=cpu")
    return ("explain", f"weights='{age_run}'", *ON_IXI, *where)


def folders(tmp_path):
    return sorted(file.parent for file in tmp_path.rglob("explanation.yaml"))


def test_the_command(arguments, age_run, real_brains, tmp_path, command, capsys):
    command(*arguments, "integrated_gradients.n_steps=150")
    (folder,) = folders(tmp_path)
    assert folder.parent == tmp_path / "runs" / "explanations" / age_run.name
    record = yaml.safe_load((folder / "explanation.yaml").read_text())
    expected = {
        "method": "integrated_gradients",
        "settings": {"n_steps": 150, "baseline": "background"},
        "output": "predicted age (years)",
        "signed": True,
        "run": age_run.name,
        "task": "brain_age",
        "cohort": "ixi",
        "simulated": False,
        "grid": "8mm",
        "split": "test",
        "n_scans": 1,
        "n_subjects": 1,
        "native": 1,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["command"].startswith("python -m neuro_ssl.explain ") and "captum" in record["versions"]
    names = ["background.nii.gz", "explanation.yaml", "figure.png", "figure.svg", "mean.nii.gz", "mean_absolute.nii.gz"]
    assert sorted(file.name for file in folder.iterdir() if file.name[0] != ".") == [*names, "scans"]

    # What is explained is what the run predicted, and the attributions add up to it.
    predictions = pd.read_parquet(age_run / "predictions.parquet")
    (prediction,) = predictions[predictions["split"] == "test"].itertuples()
    numbers = json.loads((folder / "scans" / f"{prediction.scan_id}_attribution.json").read_text())
    assert numbers["output"] == pytest.approx(prediction.prediction, rel=1e-4)
    attribution = nib.load(folder / "scans" / f"{prediction.scan_id}_attribution.nii.gz")
    total = attribution.get_fdata().sum()
    assert total == pytest.approx(numbers["output"] - numbers["baseline_output"], rel=0.05)
    assert record["completeness_error"] < 0.05

    # One scan is its own mean; MNI space is the grid's, and the background is where the store has it.
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    volume = store.read(store.manifest.set_index("scan_id").loc[prediction.scan_id, "volume"]).transpose(2, 1, 0)
    mean, absolute, background = (
        nib.load(folder / f"{name}.nii.gz") for name in ("mean", "mean_absolute", "background")
    )
    np.testing.assert_array_equal(mean.affine, Grid.named("8mm").affine)
    np.testing.assert_allclose(mean.get_fdata(), attribution.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(absolute.get_fdata(), np.abs(attribution.get_fdata()), atol=1e-6)
    np.testing.assert_allclose(background.get_fdata(), volume, atol=1e-3)
    assert not mean.get_fdata()[volume == 0].any() and record["outside_brain"] == 0

    acquired = nib.load(IXI / f"{prediction.scan_id}_T1.nii.gz")
    native = nib.load(folder / "scans" / f"{prediction.scan_id}_native.nii.gz")
    assert native.shape == acquired.shape and np.ptp(native.get_fdata()) > 0
    np.testing.assert_allclose(native.affine, acquired.affine)

    # The same command again shows it; with a check more, the maps stay.
    capsys.readouterr()
    command(*arguments, "integrated_gradients.n_steps=150")
    assert capsys.readouterr().out.startswith(f"already there: {folder}\n  mean.nii.gz, figure.png; 1 scans")
    assert [file for file in folder.rglob("*") if "explanation" in file.name] == [folder / "explanation.yaml"]


@pytest.mark.slow
def test_an_interrupted_one_goes_on(arguments, pretrained, tmp_path, command, capsys):
    """Every method, of an encoder without a head; a scan that was there is kept, and images may be gone."""
    options = (*arguments[:1], f"weights='{pretrained}'", *arguments[2:], "scans=all", "occlusion.stride_mm=24")
    command(*options, "methods=[gradient_x_input,occlusion,grad_cam,integrated_gradients]", "grad_cam.layer=-3")
    everything = folders(tmp_path)
    assert len(everything) == 4
    for folder in everything:
        record = yaml.safe_load((folder / "explanation.yaml").read_text())
        assert record["task"] is None and record["n_scans"] == 4 and record["sanity_check"] is None
        scans = [nib.load(file).get_fdata() for file in sorted(folder.glob("scans/*_attribution.nii.gz"))]
        assert len(scans) == 4
        np.testing.assert_allclose(nib.load(folder / "mean.nii.gz").get_fdata(), np.mean(scans, axis=0), atol=1e-5)
        absolute = nib.load(folder / "mean_absolute.nii.gz").get_fdata()
        np.testing.assert_allclose(absolute, np.mean(np.abs(scans), axis=0), atol=1e-5)
        assert record["signed"] == (np.min(scans) < 0)
        uses = folder.name.startswith(("integrated", "occlusion"))
        assert record["settings"].get("baseline") == ("mean_scan" if uses else None)
    folder = next(folder for folder in everything if folder.name.startswith("gradient"))
    kept, lost, half = sorted(folder.glob("scans/*_attribution.nii.gz"))[:3]
    written, before = kept.stat().st_mtime_ns, nib.load(lost).get_fdata()
    (folder / "explanation.yaml").unlink()
    lost.unlink()
    numbers = half.with_name(half.name.replace(".nii.gz", ".json"))
    numbers.unlink()
    command(*options, "methods=[gradient_x_input]", "sanity_check=true")
    assert kept.stat().st_mtime_ns == written
    np.testing.assert_array_equal(nib.load(lost).get_fdata(), before)
    assert set(json.loads(numbers.read_text())) == {"output", "baseline_output", "sum"}
    record = yaml.safe_load((folder / "explanation.yaml").read_text())
    assert record["sanity_check"]["n_scans"] == 2 and set(record["sanity_check"]["likeness"]) >= {"stage 4", "input"}
    assert "head" not in record["sanity_check"]["likeness"]
    assert "likeness of the maps" in capsys.readouterr().out


@pytest.mark.slow
def test_one_target_of_several(random_scans, tmp_path, command):
    """The logit of a multitask run's second target is what its predicted probability comes from."""
    data = ("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir='{random_scans.path.parents[2]}'")
    where = (*data, f"runs_dir='{tmp_path}'")
    settings = ("encoder.width=8", "trainer.max_epochs=3", "strategy=cpu", "logger=csv", "num_workers=0")
    command("train", "+experiment=from_scratch", "task=multitask", "views=none", *where, *settings)
    (run,) = tmp_path.glob("from_scratch-*")
    options = (*where, f"weights='{run}'", "device=cpu", "native=false", "methods=[gradient_x_input]")
    command("explain", *options, "target=sex")
    (folder,) = folders(tmp_path)
    assert yaml.safe_load((folder / "explanation.yaml").read_text())["output"] == "logit of sex = M"
    table = pd.read_parquet(run / "predictions.parquet")
    table = table[(table["split"] == "test") & (table["task"] == "sex")]
    assert len(table) == 3
    for row in table.itertuples():
        output = json.loads((folder / "scans" / f"{row.scan_id}_attribution.json").read_text())["output"]
        assert 1 / (1 + np.exp(-output)) == pytest.approx(row.prediction, abs=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["weights=null"], "weights: give a run directory"),
        (["methods=[saliency]"], "methods: 'saliency' is none of gradient_x_input, integrated_gradients, occlusion"),
        (["methods=[]"], "methods: name at least one of"),
        (["scans=[sub-7]"], "scans: sub-7 is not in "),
        (["scans=7"], "scans must be train, val, test, all or a list of ids, got 7"),
        (["target=sex"], "target=sex: weights="),
        (["grid=4mm"], "no volume store of cohort ixi on grid 4mm"),
        (["methods=[grad_cam]"], "grad_cam.layer=-1 has maps of 1×1×1 elements"),
        (["methods=[occlusion]", "occlusion.window_mm=240"], "a cube of 30 voxels doesn't fit into 19×24×24"),
        (["baseline=noise"], "baseline must be null, background or mean_scan, got 'noise'"),
        (["device=tpu"], "device must be auto, cpu or cuda, got 'tpu'"),
        (["+occlusion.size=3"], "occlusion.size is not a parameter"),
        (["integrated_gradients.n_steps=0"], "integrated_gradients.n_steps must be at least 1, got 0"),
        (["batch_size=0"], "batch_size must be at least 1, got 0"),
    ],
)
def test_one_clear_error(arguments, tmp_path, command, capsys, more, message):
    with pytest.raises(SystemExit, match="1"):
        command(*arguments, *more)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_grid_than_the_weights_were_trained_on(arguments, random_scans, capsys, command, tmp_path):
    data = random_scans.path.parents[2]
    with pytest.raises(SystemExit, match="1"):
        command(*arguments[:2], "dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir='{data}'", *arguments[-2:])
    assert "were trained on scans with grid=8mm, these have grid=16mm" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_images_that_are_gone(age_run, real_brains, tmp_path):
    """Their maps are in MNI space alone; the next time they are made, if the image is back."""
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    moved = dataclasses.replace(store, manifest=store.manifest.assign(image_path=str(tmp_path / "gone.nii.gz")))
    model = ExplainedModel.of(Weights.load(str(age_run)))
    method = methods.GradientTimesInput()
    first, again = (
        Explanation(tmp_path, model, volumes, volumes.manifest[:2], "all", "gradient_x_input", method)
        for volumes in (moved, store)
    )
    with pytest.warns(UserWarning, match="2 of 2 images as acquired are gone, first .*gone.nii.gz"):
        record = Maker(first, torch.device("cpu")).make(native=True, sanity_check=False)
    assert record["native"] == 0 and not first.is_finished(native=True, sanity_check=False)
    assert first.is_finished(native=False, sanity_check=False)
    assert again.path == first.path
    assert Maker(again, torch.device("cpu")).make(native=True, sanity_check=False)["native"] == 2


def test_only_a_whole_one_is_finished(age_run, real_brains, tmp_path):
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    model, method = ExplainedModel.of(Weights.load(str(age_run))), methods.GradientTimesInput()
    one = Explanation(tmp_path, model, store, store.manifest[:2], "all", "gradient_x_input", method)
    one.path.mkdir(parents=True)
    for n_native, whole in ((0, False), (1, False), (2, True)):
        record = {"method": "gradient_x_input", "native": n_native, "sanity_check": None}
        (one.path / "explanation.yaml").write_text(yaml.safe_dump(record))
        assert one.is_finished(native=True, sanity_check=False) == whole
        assert one.is_finished(native=False, sanity_check=False)
        assert not one.is_finished(native=False, sanity_check=True)


def test_another_head_on_the_same_encoder_is_another_explanation(age_run, real_brains, tmp_path):
    """A probe that was deleted and trained again has its name and its encoder still."""
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    again = shutil.copytree(age_run, tmp_path / age_run.name)

    def path(run):
        model = ExplainedModel.of(Weights.load(str(run)))
        return Explanation(tmp_path, model, store, store.manifest, "all", "occlusion", methods.Occlusion()).path

    assert path(again) == path(age_run)
    checkpoint = torch.load(again / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["head.weight"] *= 2
    torch.save(checkpoint, again / "checkpoints" / "best.ckpt")
    assert path(again) != path(age_run) and path(again).parent == path(age_run).parent


@pytest.mark.parametrize(
    "given", ["scans=[sub-07_ses-1,sub-9]", "++scans=['sub-07', \n 'sub-9']", "scans=test,[sub-07]"]
)
def test_ids_stay_out_of_the_command_that_is_passed_on(monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["neuro_ssl/explain.py", "weights=runs/a", given, "methods=[occlusion]"])
    command = command_line(private="scans")
    assert "sub-" not in command and "scans=[…]" in command
    assert command.startswith("python -m neuro_ssl.explain weights=runs/a ") and "methods=[occlusion]" in command
    monkeypatch.setattr(sys, "argv", ["neuro_ssl/explain.py", "scans=test", "max_scans=3"])
    assert command_line(private="scans") == "python -m neuro_ssl.explain scans=test max_scans=3"


@pytest.mark.slow
def test_chosen_scans_are_not_named(arguments, real_brains, tmp_path, command, capsys):
    scan = VolumeStore.find(real_brains / "stores" / "ixi", "8mm").manifest["scan_id"].iloc[0]
    command(*arguments, f"scans=[{scan}]", "methods=[gradient_x_input]", "native=false")
    (folder,) = folders(tmp_path)
    text = (folder / "explanation.yaml").read_text()
    assert scan not in text and yaml.safe_load(text)["split"] == "chosen"
    assert scan not in (folder / "figure.svg").read_text()
    assert "mean of 1 chosen scan of 1 subject, cohort ixi" in capsys.readouterr().out


@pytest.mark.slow
def test_a_map_of_nothing_is_told_of(age_run, real_brains, tmp_path):
    class Nothing(methods.GradientTimesInput):
        def __call__(self, model, inputs, baseline, **_):
            return torch.zeros_like(inputs)

    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    model = ExplainedModel.of(Weights.load(str(age_run)))
    empty = Explanation(tmp_path, model, store, store.manifest[:1], "chosen", "grad_cam", Nothing())
    with pytest.warns(UserWarning) as told:
        Maker(empty, torch.device("cpu")).make(native=False, sanity_check=False)
    assert [str(warning.message).split(": ")[1] for warning in told] == ["the maps are 0 everywhere"]
    assert (empty.path / "figure.svg").stat().st_size > 1000


def test_names_are_those_of_the_methods():
    assert set(METHODS) == set(methods.METHODS) == set(explanation.TITLES)
