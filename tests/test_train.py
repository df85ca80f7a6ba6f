"""The path of the README on four real brains: pretrain, probe, fine-tune, from scratch, report."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from neuro_ssl.data.store import VolumeStore


@pytest.fixture(scope="module")
def path_on_real_brains(real_brains, tmp_path_factory):
    """The runs of every recipe, made by one short session of commands."""
    from tests.conftest import run_command

    runs = tmp_path_factory.mktemp("runs")
    tiny = ["dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={runs}"]
    tiny += ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=2", "logger=csv"]
    network = "encoder.width=8"
    run_command("train", "+experiment=simclr_pretrain", network, *tiny)
    pretrained = next(runs.glob("simclr_pretrain-*"))
    weights = f"weights={pretrained}"
    run_command("train", "+experiment=linear_probe", weights, *tiny)
    run_command("train", "+experiment=finetune", weights, *tiny)
    run_command("train", "+experiment=from_scratch", network, *tiny)
    run_command("report", f"runs_dir={runs}")
    return runs, tiny, pretrained


def run_of(runs, recipe):
    (path,) = runs.glob(f"{recipe}-*")
    return path


def test_pretraining_leaves_a_whole_run(path_on_real_brains):
    _, _, run = path_on_real_brains
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["status"] == "finished"
    assert record["command"].startswith("python -m neuro_ssl.train +experiment=simclr_pretrain")
    assert record["dataset"]["simulated"] is False
    assert {"cohort", "preprocessing_hash", "manifest_hash", "split_hash"} < set(record["dataset"])
    assert record["config"]["encoder"]["_target_"] == "neuro_ssl.encoders.resnet3d.ResNet3D"
    assert record["config"]["seed"] == record["seed"] == 0
    assert len(record["commit"]) == 40 and record["dirty"] in (True, False)
    assert record["hardware"]["cpus"] and record["versions"]["torch"]
    assert record["dataset"]["n_subjects"] == {"train": 2, "val": 1, "test": 1}
    metrics = pd.read_csv(run / "metrics.csv")
    assert list(metrics) == ["epoch", "step", "metric", "value"]
    assert sorted(metrics[metrics["metric"] == "train/loss"]["epoch"]) == [0, 1]
    assert metrics["value"].notna().all()
    views = np.load(run / "views.npz")
    assert views["original"].shape == views["view1"].shape == views["view2"].shape == (2, 19, 24, 24)
    assert not np.array_equal(views["view1"], views["view2"])


@pytest.mark.parametrize("recipe", ["linear_probe", "finetune", "from_scratch"])
def test_downstream_runs_predict_every_held_out_scan_once(path_on_real_brains, real_brains, recipe):
    runs, _, _ = path_on_real_brains
    run = run_of(runs, recipe)
    manifest = VolumeStore.find(real_brains / "stores" / "ixi", "8mm").manifest
    table = pd.read_parquet(run / "predictions.parquet")
    held_out = manifest[manifest["split"] != "train"]
    assert sorted(table["scan_id"]) == sorted(held_out["scan_id"])
    merged = table.merge(held_out, on="scan_id", suffixes=("", "_manifest"))
    assert (merged["split"] == merged["split_manifest"]).all()
    np.testing.assert_allclose(merged["target"], merged["age_years_manifest"], rtol=1e-6)
    results = json.loads((run / "results.json").read_text())
    test = table[table["split"] == "test"]
    assert results["scores"]["mae"]["value"] == pytest.approx(abs(test["target"] - test["prediction"]).mean())
    assert (results["protocol"], results["initialisation"]) == {
        "linear_probe": ("linear_probe", "pretrained"),
        "finetune": ("finetune", "pretrained"),
        "from_scratch": ("from_scratch", "untrained"),
    }[recipe]


def test_a_probe_leaves_the_pretrained_encoder_as_it_was(path_on_real_brains):
    import torch

    runs, _, pretrained = path_on_real_brains
    before = torch.load(pretrained / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    after = torch.load(run_of(runs, "linear_probe") / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    encoder = [name for name in before if name.startswith("encoder.")]
    assert len(encoder) > 50
    for name in encoder:
        assert before[name].numpy().tobytes() == after[name].numpy().tobytes(), name
    tuned = torch.load(run_of(runs, "finetune") / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(tuned["encoder.conv1.weight"], before["encoder.conv1.weight"])


def test_report_shows_every_run(path_on_real_brains):
    runs, _, _ = path_on_real_brains
    page = (runs / "report" / "report.html").read_text()
    for run in runs.glob("*-*"):
        assert run.name in page
    assert "simulated" not in page.lower()
    assert len(pd.read_csv(runs / "report" / "results.csv")) > 0


def test_a_finished_run_shows_its_results_and_does_nothing(path_on_real_brains, command, capsys):
    runs, tiny, pretrained = path_on_real_brains
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()}
    capsys.readouterr()
    command("train", "+experiment=finetune", f"weights={pretrained}", *tiny)
    out = capsys.readouterr().out
    assert "already finished" in out
    assert re.search(r"mae +\d", out)
    assert before == {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()}


def test_where_and_how_it_runs_does_not_name_another_run(path_on_real_brains, command, capsys):
    runs, tiny, _ = path_on_real_brains
    command("train", "+experiment=from_scratch", "encoder.width=8", *tiny, "num_workers=1", "strategy=auto")
    assert "already finished" in capsys.readouterr().out
    command("train", "+experiment=from_scratch", "encoder.width=8", *tiny, "optimizer.learning_rate=0.002")
    assert len(list(runs.glob("from_scratch-*"))) == 2


def test_a_sweep_makes_the_same_runs_as_single_commands(path_on_real_brains, tmp_path, command, capsys):
    _, tiny, _ = path_on_real_brains
    tiny = [*tiny, f"runs_dir={tmp_path}", "trainer.max_epochs=1", "encoder.width=8", "+experiment=simclr_pretrain"]
    command("train", "-m", "seed=0,1", *tiny)
    runs = sorted(path.name for path in tmp_path.glob("simclr_pretrain-*"))
    assert len(runs) == 2
    assert {yaml.safe_load((tmp_path / run / "run.yaml").read_text())["seed"] for run in runs} == {0, 1}
    capsys.readouterr()
    command("train", "seed=1", *tiny)
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command("train", "-m", "seed=2,3", *tiny, "trainer.devices=2")
    assert "a sweep (-m) can't use 2 devices" in capsys.readouterr().err


def test_weights_bring_their_encoder(path_on_real_brains, tmp_path, command, capsys):
    _, tiny, pretrained = path_on_real_brains
    with pytest.raises(SystemExit):
        command("train", "+experiment=finetune", f"weights={pretrained}", *tiny, "encoder.width=16")
    assert "bring their own encoder" in capsys.readouterr().err
