"""A training that a signal stops ends soon, with its state saved, and goes on to the same weights and history."""

import os
import signal
import stat
import subprocess
import sys

import cloudpickle
import psutil
import pytest
import yaml

from neuro_ssl import signals
from neuro_ssl.run import RunDirectory
from tests.distributed.commands import Running, last_checkpoint, steps_of
from tests.faults.disturbance import at_step, options
from tests.test_resume import assert_equal_runs, only_run


@pytest.fixture
def arguments(random_scans):
    return lambda recipe, runs, *more: options(recipe, runs, random_scans.path.parents[2], *more)


@pytest.fixture(autouse=True)
def handlers():
    """Every command leaves the signals to whoever listened before; only SIGTERM may be ignored after a requeue."""
    before = {signum: signal.getsignal(signum) for signum in signals.STOPPING}
    yield
    after = {signum: signal.getsignal(signum) for signum in before}
    for signum, handler in before.items():
        signal.signal(signum, handler)
    if after[signal.SIGTERM] == signal.SIG_IGN:
        del before[signal.SIGTERM], after[signal.SIGTERM]
    assert after == before


def send_at(monkeypatch, hook, step, signum):
    """Send this process a signal in a callback's hook when so many optimiser steps are done."""
    at_step(monkeypatch, step, lambda trainer: os.kill(os.getpid(), signum), hook)


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A stand-in on the PATH that notes its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "scontrol"
    command.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "calls"


MOMENTS = [  # three batches an epoch
    ("on_train_start", 0),
    ("on_train_batch_start", 1),  # within the first epoch
    ("on_train_batch_start", 4),
    ("on_train_batch_start", 5),  # in its last batch, before validation
    ("on_validation_batch_start", 6),
    ("on_train_epoch_end", 6),
]
FAST = [("simclr_pretrain", MOMENTS[2])]


@pytest.mark.parametrize(
    ("recipe", "moment"),
    [
        pytest.param(recipe, moment, marks=[] if (recipe, moment) in FAST else pytest.mark.slow)
        for recipe in ("simclr_pretrain", "from_scratch")
        for moment in MOMENTS
    ],
)
def test_stops_with_its_state_saved_and_goes_on(
    recipe, moment, arguments, undisturbed, tmp_path, command, monkeypatch, capsys
):
    whole = undisturbed(recipe)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        send_at(patch, *moment, signal.SIGUSR1)
        with pytest.raises(SystemExit) as stop:
            command("train", *arguments(recipe, tmp_path))
    assert stop.value.code == 128 + signal.SIGUSR1
    told = capsys.readouterr()
    assert "stopped by SIGUSR1 after step" in told.out.splitlines()[-1]
    assert "with its state saved; the same command goes on from there" in told.out
    assert "error" not in told.err
    assert "Traceback" not in told.err
    run = only_run(tmp_path)
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "running"
    command("train", *arguments(recipe, tmp_path))
    assert_equal_runs(run, whole)


@pytest.mark.slow
def test_between_batches_whose_gradients_are_summed_it_goes_on_to_the_step(
    arguments, tmp_path, command, monkeypatch, capsys
):
    """Three batches an epoch make two steps, of two batches and of one."""
    more = ["+trainer.accumulate_grad_batches=2"]
    command("train", *arguments("from_scratch", tmp_path / "whole", *more))
    with monkeypatch.context() as patch:
        send_at(patch, "on_train_batch_start", 2, signal.SIGUSR1)
        with pytest.raises(SystemExit):
            command("train", *arguments("from_scratch", tmp_path / "runs", *more))
    assert "stopped by SIGUSR1 after step 3 with its state saved" in capsys.readouterr().out
    command("train", *arguments("from_scratch", tmp_path / "runs", *more))
    assert_equal_runs(only_run(tmp_path / "runs"), only_run(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "step", "stops_at"),
    [
        (["batch_size=2", "encoder.norm=group", "+trainer.val_check_interval=2"], 1, 3),  # validation follows step 2
        (["+trainer.max_steps=5"], 4, 5),  # within the second epoch, whose metrics are logged at its end
    ],
)
def test_what_follows_a_step_is_not_left_out(more, step, stops_at, arguments, tmp_path, command, monkeypatch, capsys):
    command("train", *arguments("from_scratch", tmp_path / "whole", *more))
    with monkeypatch.context() as patch:
        send_at(patch, "on_train_batch_start", step, signal.SIGUSR1)
        with pytest.raises(SystemExit):
            command("train", *arguments("from_scratch", tmp_path / "runs", *more))
    assert f"stopped by SIGUSR1 after step {stops_at} with its state saved" in capsys.readouterr().out
    command("train", *arguments("from_scratch", tmp_path / "runs", *more))
    assert_equal_runs(only_run(tmp_path / "runs"), only_run(tmp_path / "whole"))


@pytest.mark.slow
def test_a_long_validation_is_left(arguments, undisturbed, tmp_path, command, monkeypatch, capsys):
    expected = undisturbed("from_scratch")
    with monkeypatch.context() as patch:
        patch.setattr("neuro_ssl.callbacks.checkpoints.VALIDATES_ON_S", 0)
        send_at(patch, "on_validation_batch_start", 6, signal.SIGUSR1)
        with pytest.raises(SystemExit) as stop:
            command("train", *arguments("from_scratch", tmp_path))
    assert stop.value.code == 128 + signal.SIGUSR1
    told = "after step 6 in the validation; the same command goes on from the last checkpoint"
    assert told in capsys.readouterr().out
    command("train", *arguments("from_scratch", tmp_path))
    assert_equal_runs(only_run(tmp_path), expected)


def test_before_training_it_ends_at_once(arguments, tmp_path, command, monkeypatch, capsys):
    original = RunDirectory.begin

    def begin(self, *args):
        original(self, *args)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "begin", begin)
        with pytest.raises(SystemExit) as stop:
            command("train", *arguments("from_scratch", tmp_path))
    assert stop.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped by SIGTERM before training began")
    assert not (only_run(tmp_path) / "checkpoints").exists()


@pytest.mark.slow
def test_when_all_is_trained_the_test_split_stays_closed(arguments, tmp_path, command, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        send_at(patch, "on_train_batch_start", 8, signal.SIGTERM)
        with pytest.raises(SystemExit):
            command("train", *arguments("from_scratch", tmp_path))
    assert "after step 9 with its state saved" in capsys.readouterr().out
    run = only_run(tmp_path)
    assert yaml.safe_load((run / "run.yaml").read_text())["test_opened"] == []
    command("train", *arguments("from_scratch", tmp_path))
    assert len(yaml.safe_load((run / "run.yaml").read_text())["test_opened"]) == 1


@pytest.mark.slow
def test_an_open_test_split_is_scored_before_the_end(arguments, tmp_path, command, monkeypatch, capsys):
    original = RunDirectory.open_test

    def open_test(self):
        original(self)
        os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "open_test", open_test)
        command("train", *arguments("from_scratch", tmp_path))
    assert "finished: " in capsys.readouterr().out
    assert len(yaml.safe_load((only_run(tmp_path) / "run.yaml").read_text())["test_opened"]) == 1


@pytest.mark.slow
def test_it_is_also_where_all_was_trained_before(arguments, tmp_path, command, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        send_at(patch, "on_train_batch_start", 8, signal.SIGTERM)
        with pytest.raises(SystemExit):
            command("train", *arguments("from_scratch", tmp_path))
    test_an_open_test_split_is_scored_before_the_end(arguments, tmp_path, command, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("signum", "array", "job"),
    [
        pytest.param(signal.SIGUSR1, {}, "123", marks=pytest.mark.slow),
        (signal.SIGUSR2, {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "4"}, "77_4"),
    ],
)
def test_slurm_starts_the_job_again(signum, array, job, arguments, tmp_path, command, monkeypatch, scontrol, capsys):
    for name, value in {"SLURM_JOB_ID": "123", **array}.items():
        monkeypatch.setenv(name, value)
    send_at(monkeypatch, "on_train_batch_start", 1, signum)
    with pytest.raises(SystemExit) as stop:
        command("train", *arguments("simclr_pretrain", tmp_path))
    assert stop.value.code == 128 + signum
    assert scontrol.read_text() == f"requeue {job}\n"
    assert f"requeued as SLURM job {job}" in capsys.readouterr().out
    assert not list(tmp_path.rglob("hpc_ckpt*"))  # Lightning's own


@pytest.mark.slow
def test_what_is_cancelled_is_not_started_again(arguments, tmp_path, command, monkeypatch, scontrol):
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    send_at(monkeypatch, "on_train_batch_start", 1, signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        command("train", *arguments("simclr_pretrain", tmp_path))
    assert stop.value.code == 128 + signal.SIGTERM
    assert not scontrol.exists()
    assert (only_run(tmp_path) / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
def test_a_job_that_cannot_be_started_again_says_so(arguments, tmp_path, command, monkeypatch, scontrol, capsys):
    (scontrol.parent / "scontrol").write_text("#!/bin/sh\necho 'slurm_requeue error: Access denied' >&2\nexit 1\n")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    send_at(monkeypatch, "on_train_batch_start", 1, signal.SIGUSR1)
    with pytest.raises(SystemExit) as stop:
        command("train", *arguments("simclr_pretrain", tmp_path))
    assert stop.value.code == 128 + signal.SIGUSR1
    assert "(slurm_requeue error: Access denied): submit the job again" in capsys.readouterr().out


@pytest.mark.slow
def test_whoever_listened_before_hears_of_it_once_the_state_is_saved(arguments, tmp_path, command, monkeypatch):
    heard = []

    def listens(signum, frame):  # as submitit does, which requeues and ends the process
        heard.append((signum, (only_run(tmp_path) / "checkpoints" / "last.ckpt").exists()))

    signal.signal(signal.SIGUSR2, listens)
    send_at(monkeypatch, "on_train_batch_start", 1, signal.SIGUSR2)
    with pytest.raises(SystemExit):
        command("train", *arguments("simclr_pretrain", tmp_path))
    assert heard == [(signal.SIGUSR2, True)]
    assert signal.getsignal(signal.SIGUSR2) is listens
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


@pytest.mark.slow
def test_a_sweep_ends_with_the_point(arguments, tmp_path, command, monkeypatch):
    send_at(monkeypatch, "on_train_batch_start", 1, signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        command("train", "-m", *arguments("simclr_pretrain", tmp_path), "seed=0,1")
    assert stop.value.code == 128 + signal.SIGTERM
    assert len(list(tmp_path.glob("simclr_pretrain-*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_real_process_and_its_loading_processes(signum, arguments, tmp_path):
    """SLURM's signals may reach all processes of a job: those that load end with the one that trains, not before."""
    many = arguments("simclr_pretrain", tmp_path / "runs", "num_workers=2", "trainer.max_epochs=1000")
    running = Running(None, tmp_path, [*many, "checkpoint_minutes=0.002"])
    running.wait_for(lambda: last_checkpoint(tmp_path / "runs") is not None)
    process = psutil.Process(running.process.pid)
    loading = [child for child in process.children() if child.cmdline() == process.cmdline()]
    assert len(loading) >= 2
    for child in loading:
        child.send_signal(signal.SIGUSR1)
    before = last_checkpoint(tmp_path / "runs")["global_step"]
    running.wait_for(lambda: last_checkpoint(tmp_path / "runs")["global_step"] > before + 3)
    assert all(child.is_running() for child in loading)
    running.process.send_signal(signum)
    running.process.wait(60)
    _, left = psutil.wait_procs(loading, 10)
    assert not left
    assert running.process.returncode == 128 + signum, running.text
    (step,) = steps_of(running.text)
    assert last_checkpoint(tmp_path / "runs")["global_step"] == step
    assert "Traceback" not in running.text
    assert "error" not in running.text


def test_ctrl_c(capfd):
    """It stops as by any other of the signals, tells how to end at once, and Python's exception doesn't come."""
    with pytest.raises(SystemExit) as stop:
        signals.stops_on_signals(lambda: True)(listens)(signal.SIGINT)
    assert stop.value.code == 128 + signal.SIGINT
    told = capfd.readouterr()
    assert "Ctrl-C again" in told.err
    assert "stopped by SIGINT" in told.out


def test_a_command_in_the_background_of_a_script_does_not_hear_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert signals.stops_on_signals(lambda: False)(listens)(signal.SIGINT) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_second_sigterm_ends_it_as_usual(tmp_path):
    """One that comes within seconds is what a launcher passes on of the same request."""
    program = (
        "import os, signal, sys, time\n"
        "from neuro_ssl import signals\n"
        "@signals.stops_on_signals(lambda: False)\n"
        "def main():\n"
        "    signals.training_begins()\n"
        "    for pause in (0.5, 6, 0):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(pause)\n"
        "        print(pause, flush=True)\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout.split() == ["0.5", "6"]


@pytest.mark.slow
def test_submitit_starts_its_job_again(arguments, tmp_path, command):
    """Its own handler of SIGUSR2 does, once the state is saved."""
    more = ["trainer.max_epochs=60", "checkpoint_minutes=0.002"]
    command("train", *arguments("simclr_pretrain", tmp_path / "whole", *more))
    many = ["-m", *arguments("simclr_pretrain", tmp_path / "runs", *more), "hydra/launcher=submitit_local", "seed=0"]
    running = Running(None, tmp_path, many)
    running.wait_for(lambda: last_checkpoint(tmp_path / "runs") is not None)
    below = psutil.Process(running.process.pid).children(recursive=True)
    (job,) = [child for child in below if "SUBMITIT_LOCAL_JOB_ID" in child.environ()]
    job.send_signal(signal.SIGUSR2)
    assert running.process.wait(200) == 0, running.text
    (log,) = (tmp_path / "runs").glob(".sweeps/*/.submitit/*/*_log.out")
    assert "stopped by SIGUSR2 after step" in log.read_text()
    assert "going on from its last checkpoint" in log.read_text()
    assert_equal_runs(only_run(tmp_path / "runs"), only_run(tmp_path / "whole"))


def listens(signum=signal.SIGUSR1):
    signals.training_begins()
    os.kill(os.getpid(), signum)
    return signals.received()


def test_a_copy_of_the_command_in_another_process_listens_too():
    """As joblib and submitit send it there."""
    command = signals.stops_on_signals(lambda: False)(listens)
    assert cloudpickle.loads(cloudpickle.dumps(command))() == signal.SIGUSR1
