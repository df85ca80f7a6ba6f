"""W&B whose server does not answer, or no longer does: a training goes on all the same, or never begins."""

import socket
import time
from pathlib import Path

import pytest
import wandb
import yaml

from neuro_ssl.errors import InputError
from neuro_ssl.tracking import weights_and_biases as tracking
from tests.faults.disturbance import at_step, options
from tests.faults.wandb_server import WandbServer
from tests.test_resume import only_run


@pytest.fixture
def key(monkeypatch):
    """Of an account that nobody has, on a server that refuses connections."""
    wandb.teardown()  # which has looked for a key already
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield
    wandb.teardown()


@pytest.fixture
def arguments(random_scans, tmp_path):
    return [*options("simclr_pretrain", tmp_path, random_scans.path.parents[2]), "logger=wandb"]


def test_where_the_server_does_not_answer(key, tmp_path, monkeypatch, capsys):
    """`auto` goes offline, `online` is an error; W&B's client itself stands in the slow tests."""

    def init(**settings):
        if settings["settings"].mode == "online":
            (tmp_path / "wandb" / "run-1-n").mkdir(parents=True)
            raise wandb.errors.CommError("Failed\nwhile retrying: connection refused")
        return "offline run"

    monkeypatch.setattr(wandb, "init", init)
    logger = tracking.wandb_logger(str(tmp_path), "n")
    assert logger.experiment == "offline run"
    assert logger._offline
    told = capsys.readouterr().out
    assert "W&B can't be reached (connection refused), and this run is tracked offline" in told
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in told
    assert not list(tmp_path.glob("wandb/run-*"))
    with pytest.raises(InputError, match=r"mode=online: W&B can't be reached \(connection refused\)"):
        _ = tracking.wandb_logger(str(tmp_path), "n", mode="online").experiment


def test_what_is_no_key_is_told(key, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    with pytest.raises(InputError, match="WANDB_API_KEY invalid"):
        tracking.wandb_logger(str(tmp_path), "n")


def test_that_there_is_none_is_told(tmp_path, monkeypatch):
    def init(**_):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")  # as W&B's client does

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(InputError, match=r"mode=online: W&B can't be reached \(No API key configured"):
        _ = tracking.wandb_logger(str(tmp_path), "n", mode="online").experiment


@pytest.mark.slow
def test_a_run_is_tracked_offline(key, arguments, tmp_path, command, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "INIT_S", 2.0)
    start = time.monotonic()
    command("train", *arguments)
    assert time.monotonic() - start < 25
    assert "connection refused), and this run is tracked offline" in capsys.readouterr().out
    run = only_run(tmp_path)
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "finished"
    assert len(list(run.glob("wandb/offline-run-*/run-*.wandb"))) == 1


@pytest.mark.slow
def test_online_means_online(key, arguments, command, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "INIT_S", 2.0)
    with pytest.raises(SystemExit):
        command("train", *arguments, "logger.wandb.mode=online")
    assert "error: logger.wandb.mode=online: W&B can't be reached" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_vanishes_neither_stops_nor_holds_up(
    key, arguments, tmp_path, command, monkeypatch, capsys, recwarn
):
    monkeypatch.setattr(tracking, "FINISH_S", 3.0)
    server = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    at_step(monkeypatch, 2, lambda trainer: server.off())
    start = time.monotonic()
    command("train", *arguments)
    assert time.monotonic() - start < 25
    assert any("UpsertBucket" in body for _, body in server.asked)
    for place in (tmp_path, Path(tracking.__file__).parents[2], Path.home()):
        assert not any(str(place) in body for _, body in server.asked), place
    assert "finished: " in capsys.readouterr().out
    (folder,) = only_run(tmp_path).glob("wandb/run-*")
    (message,) = [str(w.message) for w in recwarn if "W&B" in str(w.message)]
    assert f"did not take all of the run within 3 s; to publish the rest later: wandb sync {folder}" in message
