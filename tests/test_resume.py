"""A run that was killed goes on as if nothing had happened: same weights bit for bit, same history, nothing twice."""

import random
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock, Timeout

from neuro_ssl.callbacks import Progress
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.store_writer import StoreWriter

TRANSFORMER = ["encoder.width=24", "encoder.n_heads=2", "encoder.n_layers=1", "encoder.patch_size=[5,6,6]"]


class Killed(BaseException):
    """Stands for kill -9 in this process: nothing of ours or of Lightning's catches it to tidy up."""


@pytest.fixture(scope="module")
def many_brains(real_brains, tmp_path_factory):
    """Two dozen subjects, noisy copies of the four real heads, on the 8 mm grid."""
    folder = tmp_path_factory.mktemp("many")
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    writer = StoreWriter(folder / "stores" / "many", store.grid, store.info["preprocessing"])
    rng, rows = np.random.default_rng(0), []
    for i in range(24):
        row = store.manifest.iloc[i % 4]
        volume = store.read(row["volume"]).astype(np.float32)
        source = folder / f"{i}.nii.gz"
        source.write_text(str(i))
        noisy = np.where(volume > 0, np.clip(volume * rng.normal(1, 0.1, volume.shape), 0.01, None), 0)
        writer.write(f"sub-{i:02d}", noisy.astype(np.float16), {"brain_ml": row["brain_ml"]}, np.eye(4), [str(source)])
        rows.append(
            {
                "scan_id": f"sub-{i:02d}",
                "subject_id": f"many/{i:02d}",
                "cohort": "many",
                "image_path": str(source),
                "age_years": row["age_years"] + rng.normal(),
                "sex": row["sex"],
                "split": ["train", "train", "train", "train", "val", "test"][(i // 4) % 6],
            }
        )
    writer.finish(pd.DataFrame(rows), "many", False)
    return folder


@pytest.fixture
def arguments(many_brains):
    def of(recipe, runs):
        return [
            f"+experiment={recipe}",
            *("dataset=csv", "dataset.cohort=many", "grid=8mm", "strategy=cpu", "batch_size=5"),
            *(TRANSFORMER if "mae" in recipe else ["encoder.width=8"]),
            *("trainer.max_epochs=3", "checkpoint_minutes=0", "num_workers=0", "logger=csv"),
            "representation_every_epochs=1",
            f"data_dir={many_brains}",
            f"runs_dir={runs}",
        ]

    return of


def kill_at(monkeypatch, hook, step):
    """Kill the run in a callback's hook when so many optimiser steps are done."""
    original = getattr(Progress, hook)

    def hooked(self, trainer, *args, **kwargs):
        original(self, trainer, *args, **kwargs)
        if trainer.global_step == step:
            raise Killed

    monkeypatch.setattr(Progress, hook, hooked)


def only_run(runs):
    (run,) = runs.glob("*-*")
    return run


def final_state(run):
    best, last = run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt"
    return {file.name: torch.load(file, weights_only=True)["state_dict"] for file in (best, last) if file.exists()}


def history(run):
    """Everything logged but what the machine's load decides."""
    lines = (run / "metrics.csv").read_text().splitlines()
    timing = (",throughput/", ",representation/seconds,", ",representation/share_of_time,")
    return [line for line in lines if not any(name in line for name in timing)]


def assert_equal_runs(run, whole):
    state, expected = final_state(run), final_state(whole)
    assert state.keys() == expected.keys()
    for file in expected:
        for name, tensor in expected[file].items():
            assert tensor.numpy().tobytes() == state[file][name].numpy().tobytes(), (file, name)
    assert history(run) == history(whole)
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "finished"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs by recipe, each made once."""
    return {}, tmp_path_factory.mktemp("whole")


MOMENTS = [  # four batches an epoch
    ("on_train_batch_end", 1),  # within the first epoch
    ("on_train_batch_end", 6),  # within the second
    ("on_train_batch_end", 8),  # after its last batch, before validation
    ("on_validation_batch_end", 8),  # in validation
    ("on_train_epoch_end", 8),  # between validation and the log of the epoch's means
    ("on_train_epoch_start", 8),  # between epochs
    ("on_train_end", 12),  # when all is trained but not yet said to be finished
]
FAST = [("simclr_pretrain", MOMENTS[1]), ("simclr_pretrain", MOMENTS[4]), ("from_scratch", MOMENTS[3])]


@pytest.mark.parametrize(
    ("recipe", "moment"),
    [
        pytest.param(recipe, moment, marks=[] if (recipe, moment) in FAST else pytest.mark.slow)
        for recipe in ("simclr_pretrain", "simclr_mae_pretrain", "from_scratch", "linear_probe")
        for moment in MOMENTS
    ],
)
def test_killed_and_started_again(recipe, moment, arguments, whole, tmp_path, command, monkeypatch):
    runs, folder = whole
    if recipe not in runs:
        command("train", *arguments(recipe, folder / recipe))
        runs[recipe] = only_run(folder / recipe)
    with monkeypatch.context() as patch:
        kill_at(patch, *moment)
        with pytest.raises(Killed):
            command("train", *arguments(recipe, tmp_path))
    assert yaml.safe_load((only_run(tmp_path) / "run.yaml").read_text())["status"] == "running"
    command("train", *arguments(recipe, tmp_path))
    assert_equal_runs(only_run(tmp_path), runs[recipe])


@pytest.mark.parametrize(
    ("hook", "epochs_before_the_end"),
    [
        ("on_train_batch_end", 0.5),  # within the last epoch: one more without a better score, and it stops
        pytest.param("on_train_epoch_start", 1, marks=pytest.mark.slow),
        pytest.param("on_train_epoch_end", 0, marks=pytest.mark.slow),
        ("on_train_end", 0),  # stopped, but not yet said to be finished: it doesn't train on
    ],
)
def test_early_stopping_comes_where_it_came_without_the_kill(
    hook, epochs_before_the_end, arguments, whole, tmp_path, command, monkeypatch
):
    def stopping(runs):
        return [*arguments("from_scratch", runs), "task=sex", "trainer.max_epochs=9", "early_stopping_patience=2"]

    runs, folder = whole
    if "stopped" not in runs:
        command("train", *stopping(folder / "stopped"))
        runs["stopped"] = only_run(folder / "stopped")
    epochs = yaml.safe_load((runs["stopped"] / "run.yaml").read_text())["epochs_trained"]
    assert 3 <= epochs < 9
    interrupted(monkeypatch, command, stopping(tmp_path), hook, int(4 * (epochs - epochs_before_the_end)))
    command("train", *stopping(tmp_path))
    assert_equal_runs(only_run(tmp_path), runs["stopped"])
    record = yaml.safe_load((only_run(tmp_path) / "run.yaml").read_text())
    assert record["epochs_trained"] == epochs


def interrupted(monkeypatch, command, arguments, hook="on_train_batch_end", step=6):
    with monkeypatch.context() as patch:
        kill_at(patch, hook, step)
        with pytest.raises(Killed):
            command("train", *arguments)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    arguments, whole, tmp_path, command, monkeypatch, recwarn
):
    runs, folder = whole
    if "from_scratch" not in runs:
        command("train", *arguments("from_scratch", folder / "from_scratch"))
        runs["from_scratch"] = only_run(folder / "from_scratch")
    interrupted(monkeypatch, command, arguments("from_scratch", tmp_path))
    checkpoints = only_run(tmp_path) / "checkpoints"
    content = bytearray((checkpoints / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 0xFF  # one byte, in the middle of some weights
    (checkpoints / "last.ckpt").write_bytes(content)
    command("train", *arguments("from_scratch", tmp_path))
    (message,) = [str(w.message) for w in recwarn if "is damaged" in str(w.message)]
    assert str(checkpoints / "last.ckpt") in message
    assert str(checkpoints / "previous.ckpt") in message
    assert_equal_runs(only_run(tmp_path), runs["from_scratch"])


def test_when_every_checkpoint_is_damaged_it_says_so(arguments, tmp_path, command, monkeypatch, capsys):
    interrupted(monkeypatch, command, arguments("from_scratch", tmp_path))
    for file in (only_run(tmp_path) / "checkpoints").glob("*.ckpt"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SystemExit):
        command("train", *arguments("from_scratch", tmp_path))
    error = capsys.readouterr().err
    assert "previous.ckpt is damaged" in error
    assert f"delete {only_run(tmp_path)} to begin anew" in error


def test_a_second_copy_of_a_running_run_is_refused(arguments, tmp_path, command, monkeypatch, capsys):
    held = []
    original = Progress.on_train_start

    def try_to_lock(self, trainer, *args):
        original(self, trainer, *args)
        with pytest.raises(Timeout):  # as a second process would
            FileLock(only_run(tmp_path) / ".lock").acquire(timeout=0)
        held.append(True)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_train_start", try_to_lock)
        with pytest.raises(Killed):
            command("train", *arguments("from_scratch", tmp_path))
    assert held
    with FileLock(only_run(tmp_path) / ".lock"), pytest.raises(SystemExit):
        command("train", *arguments("from_scratch", tmp_path))
    assert "another process works on this run" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_with_what_made_it(arguments, tmp_path, command, capsys):
    with pytest.raises(SystemExit):
        command("train", *arguments("from_scratch", tmp_path), "optimizer.learning_rate=1e30")
    error = capsys.readouterr().err
    assert "the loss is" in error
    assert "sub-" in error
    assert "learning rate 1e+30" in error or "learning rate" in error
    assert len(error.strip().splitlines()[-1]) < 600


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["simclr_pretrain", "finetune"])
def test_twenty_random_kills(recipe, arguments, tmp_path, command):
    """kill -9 of the real command at random moments, until it gets through; against one uninterrupted run."""
    longer = ["trainer.max_epochs=30"]
    if recipe == "finetune":
        command("train", *arguments("simclr_pretrain", tmp_path / "pretraining"))
        longer.append(f"weights={only_run(tmp_path / 'pretraining')}")
    of = [a for a in arguments(recipe, tmp_path / "whole") if recipe != "finetune" or not a.startswith("encoder.")]
    command("train", *of, *longer)

    of = [f"runs_dir={tmp_path / 'killed'}" if a.startswith("runs_dir=") else a for a in of]
    rng = random.Random(0)
    kills = 0

    def saved():
        return {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("*/checkpoints/*.ckpt")}

    while kills < 20:
        before = saved()
        process = subprocess.Popen(
            [sys.executable, "-m", "neuro_ssl.train", *of, *longer],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None and saved() == before:  # once it trains
                time.sleep(0.01)
            process.wait(timeout=rng.uniform(0, 0.5))
            assert process.returncode == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert kills > 2
    command("train", *of, *longer)
    assert_equal_runs(only_run(tmp_path / "killed"), only_run(tmp_path / "whole"))
