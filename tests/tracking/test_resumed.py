"""A run that is killed and goes on is one run to its trackers; one that fails or is stopped says so."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import wandb
import yaml

from tests.faults.disturbance import at_step, options
from tests.test_resume import only_run
from tests.tracking import datastore
from tests.tracking.test_tracked_runs import tensorboard


class Killed(BaseException):
    pass


def killed(trainer):
    raise Killed


@pytest.fixture
def arguments(random_scans, tmp_path):
    def of(recipe, *more):
        return [*options(recipe, tmp_path, random_scans.path.parents[2], "trainer.log_every_n_steps=1"), *more]

    return of


def test_a_killed_run_is_one_run_to_its_trackers(arguments, tmp_path, command, monkeypatch, capsys):
    tiny = ["encoder.width=24", "encoder.n_heads=2", "encoder.n_layers=1", "encoder.patch_size=[5,6,6]"]
    tracked = [*arguments("mae_pretrain", *tiny), "logger=[wandb,tensorboard]", "logger.images=upload"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        at_step(patch, 5, killed)  # in the second of three epochs, after a picture and a step that is trained again
        command("train", *tracked)
    wandb.teardown()  # of a service that writes beside
    assert datastore.summary(only_run(tmp_path))["status"] == "failed"
    capsys.readouterr()
    command("train", *tracked)
    wandb.teardown()
    run = only_run(tmp_path)
    assert f"wandb sync {run}/wandb/offline-run-*" in capsys.readouterr().out

    metrics = pd.read_csv(run / "metrics.csv")
    expected = {(row.step, row.metric): row.value for row in metrics.itertuples()}
    assert len(expected) == len(metrics) > 15
    for found in (datastore.scalars(run), tensorboard(run)):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert np.float32(found[key]) == pytest.approx(np.float32(value), rel=2**-22), key
    assert datastore.inspected(run)["history"] == len(datastore.history(run))
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert datastore.config(run)["optimizer"] == record["config"]["optimizer"]
    assert datastore.summary(run)["status"] == "finished"
    assert {artifact.type for artifact in datastore.artifacts(run)} == {"dataset", "model"}
    pictures = {
        row["trainer/global_step"]: row["reconstructions.filenames"]
        for row in datastore.history(run)
        if "reconstructions.filenames" in row
    }
    assert sorted(pictures) == [3, 6, 9]  # after each of the three epochs
    folder = datastore.offline_folder(run) / "files"
    assert all((folder / name).stat().st_size > 1000 for (name,) in pictures.values())
    assert len({(folder / name).read_bytes() for (name,) in pictures.values()}) == 3


@pytest.mark.slow
def test_a_failure_is_told(arguments, tmp_path, command):
    with pytest.raises(SystemExit):
        command("train", *arguments("from_scratch", "task=sex", "logger=wandb", "optimizer.learning_rate=1e30"))
    assert wandb.run is None
    wandb.teardown()
    run = only_run(tmp_path)
    assert datastore.summary(run)["status"] == "failed"
    assert datastore.records(run)[-1].exit.exit_code == 1


@pytest.mark.slow
def test_a_stop_is_told(arguments, tmp_path, command, monkeypatch):
    at_step(monkeypatch, 4, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        command("train", *arguments("from_scratch", "task=sex", "logger=wandb"))
    wandb.teardown()
    summary = datastore.summary(only_run(tmp_path))
    assert summary["status"] == "stopped"
    assert 0 <= summary["duration_s"] < 120


@pytest.mark.slow
def test_a_run_whose_pictures_fail_is_finished_all_the_same(arguments, tmp_path, command, monkeypatch):
    def failing(*_):
        raise Killed

    monkeypatch.setattr("neuro_ssl.callbacks.draw_outcome", failing)
    with pytest.raises(Killed):
        command("train", *arguments("from_scratch", "task=sex", "logger=wandb"))
    summary = datastore.summary(only_run(tmp_path))
    assert summary["status"] == "finished"
    assert "test/auroc" in summary
