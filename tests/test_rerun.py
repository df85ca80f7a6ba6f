"""A run is repeated by its record, in another place, and compared; nothing of the original changes."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from neuro_ssl.reporting.runs.reading import read_runs
from neuro_ssl.rerunning import repetition
from neuro_ssl.rerunning.outcome import outcome
from neuro_ssl.rerunning.recorded import Recorded
from tests.conftest import run_command

TINY = ("encoder.width=8", "strategy=cpu", "logger=csv", "num_workers=0", "batch_size=4", "trainer.max_epochs=2")
DATA = ("dataset=csv", "dataset.cohort=c", "grid=16mm")


@pytest.fixture(scope="module")
def original(random_scans, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    data = f"data_dir={random_scans.path.parents[2]}"
    run_command("train", "+experiment=from_scratch", "task=brain_age", *TINY, *DATA, data, f"runs_dir={runs}")
    (run,) = runs.glob("from_scratch-*")
    return run


@pytest.fixture
def in_process(monkeypatch):
    """The training in this process, as it would be in its own; the commands that were run."""
    commands = []

    def run(command, environment):
        commands.append(command)
        run_command("train", *command[3:])
        return 0

    monkeypatch.setattr(repetition, "watched", run)
    return commands


def status(command, *arguments):
    with pytest.raises(SystemExit) as stop:
        command("rerun", *arguments)
    return stop.value.code


def contents(folder):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def finding(found, what):
    (one,) = (finding for finding in found if finding.what == what)
    return one


def test_a_run_repeats_bit_for_bit_and_stays_as_it_was(original, in_process, command, capsys):
    before = contents(original)
    assert status(command, original) == 0
    assert contents(original) == before
    again = original.parent / "reruns" / original.name
    shown = capsys.readouterr().out
    assert "as it was: code and machine, data, initial weights" in shown
    assert "as it was: code and machine, settings, data, initial weights" in shown
    record = json.loads((again / "rerun.json").read_text())
    assert record["same"]
    assert [f["what"] for f in record["findings"]] == [
        *("history", "best weights", "last weights", "predictions", "test scores"),
    ]
    assert (again / "rerun.md").read_text().startswith(f"# Rerun of {original.name}\n")
    one, other = (pd.read_parquet(run / "predictions.parquet") for run in (original, again))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    # A second time there is nothing to train, and other settings are not passed over.
    assert status(command, original, "seed=4") == 1
    assert "is a rerun with other settings" in capsys.readouterr().err
    assert status(command, original) == 0
    assert len(in_process) == 1 and "already repeated" in capsys.readouterr().out
    # It is no second seed, and the original's test split was opened once.
    assert [run.path for run in read_runs(original.parent).finished] == [original]
    assert len(yaml.safe_load((original / "run.yaml").read_text())["test_opened"]) == 1


def test_where_it_differs_is_said(original, in_process, command, capsys, tmp_path):
    """A copy of the run in which one thing of each kind was changed by hand."""
    copy, output = tmp_path / original.name, tmp_path / "reruns"
    shutil.copytree(original, copy)
    record = yaml.safe_load((copy / "run.yaml").read_text())
    record["versions"]["torch"], record["hardware"]["threads"], record["commit"] = "1.0", 64, "abc"
    (copy / "run.yaml").write_text(yaml.safe_dump(record))
    metrics = pd.read_csv(copy / "metrics.csv", dtype=str)
    changed = metrics.index[(metrics["step"] == "3") & (metrics["metric"] == "train/loss")]
    loss = float(metrics.loc[changed, "value"].item())
    metrics.loc[changed, "value"] = str(loss * 1.01)
    metrics.to_csv(copy / "metrics.csv", index=False)
    checkpoint = torch.load(copy / "checkpoints" / "best.ckpt", weights_only=True)
    name = next(name for name in checkpoint["state_dict"] if name.endswith("conv1.weight"))
    checkpoint["state_dict"][name].view(-1)[0] += 0.5
    torch.save(checkpoint, copy / "checkpoints" / "best.ckpt")
    predictions = pd.read_parquet(copy / "predictions.parquet")
    predictions.loc[2, "prediction"] += 0.25
    predictions.to_parquet(copy / "predictions.parquet")
    results = json.loads((copy / "results.json").read_text())
    results["scores"]["mae"]["value"] += 1
    (copy / "results.json").write_text(json.dumps(results))
    (copy / "checkpoints" / "last.ckpt").unlink()

    assert status(command, copy, "--output", output) == 3
    shown = capsys.readouterr().out
    assert f"code and machine: torch 1.0 → {version('torch')}" in shown
    assert "threads 64 →" in shown and "in another order" in shown
    found = outcome(copy, output / original.name)
    assert finding(found, "history").told.startswith("from recorded step 3 on: train/loss ")
    assert finding(found, "history").told.endswith(f" 1 of {len(metrics)} values, train/loss most, by 0.99 % at step 3")
    assert finding(found, "best weights").told.startswith("in 1 of ")
    assert finding(found, "best weights").told.endswith(f"at most by 0.5 ({name})")
    assert finding(found, "last weights").same is None
    assert finding(found, "predictions").told == "1 of 6 differ, at most by 0.25"
    assert finding(found, "test scores").told.startswith(f"mae {results['scores']['mae']['value']:.6g} → ")
    assert finding(found, "test scores").told.endswith(" numbers differ")


def test_timings_and_what_one_version_alone_measures_are_no_difference(original, tmp_path):
    copy = tmp_path / original.name
    shutil.copytree(original, copy)
    with (copy / "metrics.csv").open("a") as file:
        file.write("1,3,throughput/scans_per_s,12\n1,3,representation/seconds,0.5\n")
    checkpoint = torch.load(copy / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["train_loss.mean_value"] += 1  # of the epoch's losses, in no model
    torch.save(checkpoint, copy / "checkpoints" / "last.ckpt")
    assert all(found.same for found in outcome(original, copy))
    with (copy / "metrics.csv").open("a") as file:
        file.write("1,3,new_metric,12\n")
    history = finding(outcome(original, copy), "history")
    assert history.same and history.told.endswith("; on one side alone: new_metric")
    with (copy / "metrics.csv").open("a") as file:
        file.write("2,5,train/loss,0.5\n")
    history = finding(outcome(original, copy), "history")
    assert not history.same and "1 value is on one side alone, from step 5 on: train/loss" in history.told


def test_changed_or_missing_data_are_refused_before_training(original, random_scans, command, capsys, tmp_path):
    stores = tmp_path / "elsewhere" / "stores"
    shutil.copytree(random_scans.path.parents[1], stores)
    scan = random_scans.manifest["scan_id"].iloc[0]
    (stores / "c" / "exclude.csv").write_text(f"scan_id,reason\n{scan},moved\n")
    assert status(command, original, f"data_dir={stores.parent}", "--output", tmp_path) == 1
    told = capsys.readouterr()
    assert "data: n_scans.train 7 → 6" in told.out and "data: manifest_hash" in told.out
    assert "the data of this run are not what they were" in told.err and "--allow-changes" in told.err
    assert status(command, original, f"data_dir={tmp_path}", "--output", tmp_path) == 1
    assert "no volume store of cohort c" in (told := capsys.readouterr().err) and "data_dir=…" in told
    # One voxel, which no header and no manifest tells.
    (stores / "c" / "exclude.csv").unlink()
    file = next(stores.rglob("*.b2nd"))
    volume = blosc2.open(str(file), mode="a")
    volume[0, 0, 0] = volume[0, 0, 0] + np.float16(1)
    assert status(command, original, f"data_dir={stores.parent}", "--output", tmp_path) == 1
    assert f"data: volumes as written → 1 of 13 changed (volumes/{file.name}: its voxels" in capsys.readouterr().out
    assert not (tmp_path / original.name).exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"status": "running"}, "is unfinished; start its command again"),
        ({"status": "pruned"}, "was pruned by a search"),
        ({"versions": None}, "lacks versions, without which it cannot be repeated"),
        ({"config": {"warmup": 3}}, "config.warmup of its run.yaml is no key any more"),
    ],
)
def test_what_cannot_be_repeated_says_why(original, command, capsys, tmp_path, changes, told):
    record = yaml.safe_load((original / "run.yaml").read_text())
    for key, value in changes.items():
        if value is None:
            del record[key]
        else:
            record[key] = {**record[key], **value} if isinstance(value, dict) else value
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(record))
    assert status(command, tmp_path) == 1
    assert told in capsys.readouterr().err


def test_a_misspelt_option_and_a_missing_run_are_told(original, command, capsys, tmp_path):
    assert status(command, tmp_path) == 1
    assert "is not a run directory" in capsys.readouterr().err
    assert status(command, original, "data_dri=x") == 1
    assert "did you mean data_dir?" in capsys.readouterr().err
    assert status(command, original, "strategy=gpus") == 1
    assert "did you mean gpu?" in capsys.readouterr().err
    for option, why in (
        ("runs_dir=x", "--output says where"),
        ("rerun_of=x", "--output says where"),
        ("open_test=true", "if the run did"),
        ("logger.images=upload", "to no tracker"),
        ("encoder=resnet50", "another encoder is another run"),
    ):
        assert status(command, original, option) == 1
        assert why in capsys.readouterr().err


def recorded(path, **changes):
    config = {"data_dir": "data", "runs_dir": "runs", "weights": None, "dataset": {"stores_dir": "data/stores"}}
    record = {"name": path.name, "stage": "downstream", "config": config | changes.pop("config", {}), **changes}
    return Recorded(path, record)


def test_a_closed_test_split_stays_closed_and_a_number_found_is_kept(tmp_path):
    assert recorded(tmp_path, test_opened=["2026-01-01"]).config["open_test"] is True
    assert recorded(tmp_path, test_opened=[], config={"open_test": True}).config["open_test"] is False
    auto = recorded(tmp_path, stage="pretraining", config={"micro_batch_size": "auto"}, micro_batch_size=6)
    assert auto.config["micro_batch_size"] == 6 and "open_test" not in auto.config


def test_what_explains_a_difference_is_noted(tmp_path):
    machine = {"gpus": [], "processes": 1, "threads": 1}
    about = {"hardware": machine, "commit": None, "dirty": None, "config": {"trainer": {"precision": "bf16-mixed"}}}
    before = recorded(tmp_path, stage="pretraining", **about)
    (precision, installed) = before.notes(before.record)
    assert "no commit is known" in installed
    assert precision.startswith("trainer.precision=bf16-mixed on the CPU: gradients may be wrong")
    (threads,) = before.notes({**before.record, "commit": "abc", "hardware": {**machine, "threads": 2}})[1:]
    assert threads.startswith("threads 1 → 2: sums are added up in another order")


def test_data_and_weights_are_found_where_the_run_was_started_or_beside_it(tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    run = project / "runs" / "sex-1a2b3c4d"
    for folder in (run, project / "data" / "stores", project / "runs" / "simclr-1", elsewhere):
        folder.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    before = recorded(run, config={"weights": "runs/simclr-1"})
    config = before.placed(before.config)
    assert config["data_dir"] == str(project / "data")
    assert config["dataset"]["stores_dir"] == str(project / "data" / "stores")
    assert config["weights"] == str(project / "runs" / "simclr-1")
    moved = shutil.move(project / "runs", tmp_path / "archive")
    before = recorded(Path(moved) / run.name, config={"weights": "runs/simclr-1"})
    config = before.placed(before.config | {"data_dir": str(project / "data")})
    assert config["dataset"]["stores_dir"] == str(project / "data" / "stores")
    assert config["weights"] == str(Path(moved) / "simclr-1")


@pytest.mark.slow
def test_pretraining_and_finetuning_repeat_by_real_commands_from_another_place(random_scans, tmp_path):
    def neuro_ssl(*arguments, cwd, expected=0):
        done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(random_scans.path.parents[2], here / "data")
    settings = (*TINY, *DATA)
    neuro_ssl("neuro_ssl.train", "+experiment=simclr_pretrain", *settings, cwd=here)
    (pretrained,) = (here / "runs").glob("simclr_pretrain-*")
    neuro_ssl(
        *("neuro_ssl.train", "+experiment=finetune", "task=sex", f"weights=runs/{pretrained.name}"),
        *settings[1:],
        cwd=here,
    )
    (finetuned,) = (here / "runs").glob("finetune-*")
    there.mkdir()
    shutil.move(here / "runs", there / "archive")
    shutil.move(here / "data", there / "volumes")
    for run, n_findings in ((pretrained, 2), (finetuned, 5)):
        run = there / "archive" / run.name
        assert "data_dir=…" in neuro_ssl("neuro_ssl.rerun", run, cwd=tmp_path, expected=1)
        neuro_ssl("neuro_ssl.rerun", run, f"data_dir={there / 'volumes'}", "num_workers=1", cwd=tmp_path)
        record = json.loads((there / "archive" / "reruns" / run.name / "rerun.json").read_text())
        assert record["same"] and len(record["findings"]) == n_findings
        assert [d["what"] for d in record["before"]["settings"]] == ["num_workers"]
    # Weights that were trained anew are other weights.
    checkpoint = there / "archive" / pretrained.name / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["encoder.conv1.weight"] += 0.001
    torch.save(content, checkpoint)
    shutil.rmtree(there / "archive" / "reruns")
    run, data = there / "archive" / finetuned.name, f"data_dir={there / 'volumes'}"
    told = neuro_ssl("neuro_ssl.rerun", run, data, cwd=tmp_path, expected=1)
    assert "the initial weights of this run are not what they were" in told
    told = neuro_ssl("neuro_ssl.rerun", run, data, "--allow-changes", cwd=tmp_path, expected=3)
    assert "NOT the same" in told and "differs: from recorded step" in told
    shutil.rmtree(checkpoint.parents[1])
    assert "weights=… says" in neuro_ssl("neuro_ssl.rerun", run, data, "--output", tmp_path, cwd=tmp_path, expected=1)
