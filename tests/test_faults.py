"""What breaks a training from outside is one line that names it, and the same command goes on from there."""

import os
import shutil
import signal

import pytest

from neuro_ssl.callbacks import Progress
from neuro_ssl.errors import InputError
from neuro_ssl.faults import faults_told
from tests.test_resume import assert_equal_runs, only_run


@pytest.fixture
def store(random_scans, tmp_path):
    """A data_dir of its own, whose store can vanish."""
    shutil.copytree(random_scans.path.parents[2] / "stores", tmp_path / "data" / "stores")
    return tmp_path / "data" / random_scans.path.relative_to(random_scans.path.parents[2])


@pytest.fixture
def arguments(store):
    def of(runs, *more):
        return [
            *("+experiment=simclr_pretrain", "dataset=csv", "dataset.cohort=c", "grid=16mm"),
            *("strategy=cpu", "batch_size=3", "encoder.width=8", "num_workers=0", "logger=csv", f"runs_dir={runs}"),
            *(f"data_dir={store.parents[2]}", "trainer.max_epochs=4", "checkpoint_minutes=0", *more),
        ]

    return of


def at_step(monkeypatch, step, do, hook="on_train_batch_start"):
    """Do something in a callback's hook, when so many optimiser steps are done."""
    original, done = getattr(Progress, hook), []

    def hooked(self, trainer, *args, **kwargs):
        original(self, trainer, *args, **kwargs)
        if trainer.global_step == step and not done:
            done.append(True)
            do(trainer)

    monkeypatch.setattr(Progress, hook, hooked)


def refused(command, capsys, *arguments):
    """The one line that a command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command("train", *arguments)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error, error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert error.strip().endswith(line)
    return line


@pytest.mark.parametrize(
    "loading",
    [
        ["num_workers=0"],
        pytest.param(["num_workers=2"], marks=pytest.mark.slow),
        pytest.param(["num_workers=2", "ram_cache_gb=0.000001"], marks=pytest.mark.slow),
        pytest.param(["num_workers=0", "ram_cache_gb=0.000001"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_vanished_mount(loading, store, arguments, tmp_path, command, monkeypatch, capsys):
    command("train", *arguments(tmp_path / "whole", *loading))
    away = store.with_name("unmounted")
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda trainer: store.rename(away))
        line = refused(command, capsys, *arguments(tmp_path / "runs", *loading))
    assert str(store / "volumes") in line
    assert "cannot be read (No such file or directory); see that its disk or network folder is there" in line
    away.rename(store)
    command("train", *arguments(tmp_path / "runs", *loading))
    assert_equal_runs(only_run(tmp_path / "runs"), only_run(tmp_path / "whole"))


@pytest.mark.slow
def test_a_killed_loading_process(arguments, tmp_path, command, monkeypatch, capsys):
    def kill(trainer):
        (loader,) = trainer.fit_loop._combined_loader.flattened
        os.kill(loader._iterator._workers[0].pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        at_step(patch, 4, kill)
        line = refused(command, capsys, *arguments(tmp_path, "num_workers=2"))
    assert "a loading process was ended" in line
    assert "set num_workers lower" in line
    command("train", *arguments(tmp_path, "num_workers=2"))


class Launched:
    """A trainer whose launcher started one process, which ended."""

    def __init__(self, status):
        process = type("Process", (), {"returncode": status, "poll": lambda self: status})()
        self.strategy = type("Strategy", (), {"launcher": type("Launcher", (), {"procs": [process]})()})()


# As PyTorch 2.13, gloo and NCCL put it.
MESSAGES = [
    ("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:51032", "rank 1 .* SIGKILL"),
    ("NCCL error: remote process exited or there was a network error, ncclRemoteError", "rank 1 .* SIGKILL"),
    (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory.",
        "shm-size",
    ),
    ("unable to write to file </torch_12_34_0>: No space left on device (28)", "shm-size"),
]


@pytest.mark.parametrize(("message", "told"), MESSAGES)
def test_messages_of_libraries(message, told):
    with pytest.raises(InputError, match=told), faults_told(Launched(-9)):
        raise RuntimeError(message)


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), faults_told(Launched(-9)):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
