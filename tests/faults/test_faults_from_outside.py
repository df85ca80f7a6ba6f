"""What breaks a training from outside is one line that names it, and the same command goes on from there."""

import os
import resource
import shutil
import signal

import pytest
import torch

from neuro_ssl.callbacks import checkpoints
from neuro_ssl.errors import InputError
from neuro_ssl.faults import faults_told
from tests.faults.disturbance import at_step, options
from tests.test_resume import assert_equal_runs, only_run


@pytest.fixture
def store(random_scans, tmp_path):
    """A data_dir of its own, whose store can vanish."""
    shutil.copytree(random_scans.path.parents[2] / "stores", tmp_path / "data" / "stores")
    return tmp_path / "data" / random_scans.path.relative_to(random_scans.path.parents[2])


@pytest.fixture
def arguments(store):
    def of(runs, *more):
        return options("simclr_pretrain", runs, store.parents[2], "checkpoint_minutes=0", *more)

    return of


@pytest.fixture
def whole(undisturbed):
    """The run that nothing disturbs, in whatever way it loads and how often it saves."""
    return undisturbed("simclr_pretrain")


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
    ("loading", "step"),
    [
        (["num_workers=0"], 4),
        pytest.param(["num_workers=2"], 4, marks=pytest.mark.slow),
        pytest.param(["num_workers=0", "ram_cache_gb=0.001"], 1, marks=pytest.mark.slow),  # before all are in memory
    ],
)
def test_a_vanished_mount(loading, step, store, whole, arguments, tmp_path, command, monkeypatch, capsys):
    away = store.with_name("unmounted")
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda trainer: store.rename(away))
        line = refused(command, capsys, *arguments(tmp_path / "runs", *loading))
    assert str(store / "volumes") in line
    assert "cannot be read (No such file or directory); see that its disk or network folder is there" in line
    away.rename(store)
    command("train", *arguments(tmp_path / "runs", *loading))
    assert_equal_runs(only_run(tmp_path / "runs"), whole)


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

    world_size = 2

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


def test_a_loading_process_that_ends_while_a_checkpoint_is_written():
    with pytest.raises(InputError, match="process 7: Killed"), faults_told(Launched(-9)):
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 3236800 vs 3236692")


def test_batch_norm_that_ddp_cannot_synchronise():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(InputError, match="set trainer.sync_batchnorm=false"), faults_told(Launched(-9)):
            torch.nn.parallel.DistributedDataParallel(torch.nn.SyncBatchNorm(3))
    finally:
        torch.distributed.destroy_process_group()


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), faults_told(Launched(-9)):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def limit_files(n_bytes):
    """No file of this process may grow beyond it: the system refuses, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def unlimited():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("full", "more"),
    [
        ("last.ckpt", []),
        pytest.param("metrics.csv", ["checkpoint_minutes=60"], marks=pytest.mark.slow),
    ],
)
def test_a_full_disk(full, more, whole, arguments, tmp_path, command, monkeypatch, capsys, unlimited):
    """In the midst of training; both checkpoints from before stay valid, and it goes on once there is room."""

    def fill(trainer):
        file = only_run(tmp_path / "runs") / "metrics.csv"
        limit_files(file.stat().st_size + 30 if full == "metrics.csv" else 100_000)

    with monkeypatch.context() as patch:
        at_step(patch, 5, fill)
        line = refused(command, capsys, *arguments(tmp_path / "runs", *more))
    limit_files(resource.RLIM_INFINITY)
    run = only_run(tmp_path / "runs")
    assert f"cannot write {run}" in line
    assert f"{full}: File too large; make room" in line
    assert "the same command goes on from the last checkpoint" in line
    if full == "last.ckpt":
        steps = [torch.load(run / "checkpoints" / f"{name}.ckpt")["global_step"] for name in ("previous", "last")]
        assert steps == [4, 5]
    else:
        assert not (run / "metrics.csv").read_text().endswith("\n")  # cut short
    assert not [file.name for file in run.rglob(".*") if file.name != ".lock"]
    command("train", *arguments(tmp_path / "runs", *more))
    assert_equal_runs(run, whole)


class Killed(BaseException):
    pass


def test_what_a_kill_in_the_midst_of_writing_leaves_is_removed(arguments, tmp_path, command, monkeypatch):
    """Also the checkpoint that was damaged meanwhile, which else would replace the one that training goes on from."""
    original = checkpoints._write

    def kill(checkpoint, path):
        original(checkpoint, path)
        if checkpoint["global_step"] == 5:
            path.rename(path.with_name(".12345.last.ckpt"))  # as of another process, which cannot tidy up
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", kill)
        with pytest.raises(Killed):
            command("train", *arguments(tmp_path))
    folder = only_run(tmp_path) / "checkpoints"
    assert (folder / ".12345.last.ckpt").exists()
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:-500])
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="is damaged"):
        at_step(patch, 4, lambda trainer: (_ for _ in ()).throw(Killed), "on_train_batch_start")
        with pytest.raises(Killed):
            command("train", *arguments(tmp_path))
    assert sorted(file.name for file in folder.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert [torch.load(folder / f"{name}.ckpt")["global_step"] for name in ("previous", "last")] == [3, 4]
