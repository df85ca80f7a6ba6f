"""Out of memory: the message names what fits, `micro_batch_size=auto` finds it, and trying leaves no trace.

The device that is too small is an encoder that refuses more than so many volumes at once, when gradients are wanted.
"""

import gc
import re

import pytest
import torch
import yaml

from neuro_ssl.callbacks import Progress
from neuro_ssl.callbacks.memory import sizes
from neuro_ssl.callbacks.out_of_memory import _divided
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.memory import is_out_of_memory

FORWARD = ResNet3D.forward


@pytest.fixture(autouse=True, scope="module")
def fast_garbage_collection():
    """What the libraries hold is looked through once, not after every trial: a third of a second each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def holds(monkeypatch):
    """Make the device hold so many volumes at once; a list says how many it was shown."""
    shown = []

    def limit(n_volumes, *, without_gradients=False):
        def forward(self, volume):
            shown.append(len(volume))
            if len(volume) > n_volumes and (torch.is_grad_enabled() or without_gradients):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            # Draws from torch's generator, as dropout layers do.
            return torch.nn.functional.dropout(FORWARD(self, volume), 0.1, self.training)

        monkeypatch.setattr(ResNet3D, "forward", forward)
        return shown

    return limit


@pytest.fixture
def train(command, random_scans, tmp_path):
    """Run the command; the run that it leaves in a folder of this name."""

    def run(folder, *more, recipe="simclr_pretrain", norm="group"):
        runs = tmp_path / folder
        command(
            "train",
            *(f"+experiment={recipe}", "encoder.width=8", f"encoder.norm={norm}", "strategy=cpu", "batch_size=7"),
            *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={random_scans.path.parents[2]}"),
            *("num_workers=0", "logger=csv", "representation_every_epochs=0", "trainer.max_epochs=1"),
            *(f"runs_dir={runs}", *more),
        )
        return only_run(runs)

    return run


def only_run(runs):
    (run,) = runs.glob("*-*")
    return run


def record(run):
    return yaml.safe_load((run / "run.yaml").read_text())


def state(run):
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: value.numpy().tobytes() for name, value in saved["state_dict"].items()}


def history(run):
    return [line for line in (run / "metrics.csv").read_text().splitlines() if ",throughput/" not in line]


def refused(capsys, train, *arguments, **settings):
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train(*arguments, **settings)
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "Traceback" not in error
    return error.partition("error: ")[2].splitlines()[0]


def test_pretraining_is_told_what_fits_and_auto_finds_it(holds, train, capsys):
    holds(7)  # of two views each: three scans
    message = refused(capsys, train, "told")
    assert re.match(
        r"out of memory: the CPU \(\d+ GB\) does not hold 7 scans of 10×12×12 at once, but 3: micro_batch_size=3 "
        r"leaves batch_size=7 as it is\. Less memory is needed with trainer.precision=bf16-mixed, encoder\.check",
        message,
    )
    told = train("told", "micro_batch_size=3")
    assert record(told)["status"] == "finished"
    capsys.readouterr()
    auto = train("auto", "micro_batch_size=auto")
    assert "micro_batch_size=auto: 3 scans at once, of 7 a step, on the CPU" in capsys.readouterr().out
    assert record(auto)["micro_batch_size"] == 3
    assert state(auto) == state(told) and history(auto) == history(told)
    assert auto.name == told.name


def test_trying_leaves_no_trace(holds, train, recwarn, capsys):
    """Where all scans fit, a run is the same bit for bit: random numbers, running statistics, means of an epoch."""
    shown = holds(14)
    auto = train("auto", "micro_batch_size=auto", norm="batch")
    assert record(auto)["micro_batch_size"] == 7
    (warning,) = [str(w.message) for w in recwarn if "micro_batch_size" in str(w.message)]
    assert "micro_batch_size=7 repeats it on any" in warning
    n_shown = len(shown)
    plain = train("plain", norm="batch")
    assert len(shown) - n_shown == n_shown - 1
    assert state(auto) == state(plain) and history(auto) == history(plain)
    assert auto.name != plain.name  # with batch norm the number is a part of the result


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize(("norm", "after"), [("batch", 2), ("group", 4)])
def test_a_restart_keeps_the_number_if_the_result_depends_on_it(holds, train, tmp_path, norm, after):
    holds(4)
    arguments = ("run", "micro_batch_size=auto", "checkpoint_minutes=0", "batch_size=4")

    def kill(self, trainer, *_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_epoch_end", kill)  # in the first epoch of two batches
        with pytest.raises(Killed):
            train(*arguments, norm=norm)
    assert record(only_run(tmp_path / "run"))["micro_batch_size"] == 2
    holds(14)
    assert record(train(*arguments, norm=norm))["micro_batch_size"] == after


def test_a_downstream_task_is_told_how_to_divide_its_batch(holds, train, capsys):
    holds(2)
    message = refused(capsys, train, "whole", "batch_size=6", recipe="from_scratch")
    assert "does not hold 4 scans" in message
    assert ", but 2: batch_size=2 +trainer.accumulate_grad_batches=3. Less" in message
    run = train("divided", "batch_size=2", "+trainer.accumulate_grad_batches=3", recipe="from_scratch")
    assert record(run)["status"] == "finished"


def test_not_even_one(holds, train, capsys):
    holds(1)
    message = refused(capsys, train, "run", "batch_size=2")
    assert "does not hold 2 scans of 10×12×12 at once, nor fewer. Less memory is needed" in message
    message = refused(capsys, train, "run", "batch_size=2", "micro_batch_size=auto")
    assert "does not hold a single scan: take a coarser grid" in message


def test_without_gradients(holds, train, capsys):
    holds(2, without_gradients=True)
    message = refused(capsys, train, "run", recipe="linear_probe")
    assert "out of memory; batch_size is 7, a smaller one needs less" in message


def test_any_other_error_keeps_its_traceback(train, monkeypatch):
    def forward(self, volume):
        raise RuntimeError("a defect")

    monkeypatch.setattr(ResNet3D, "forward", forward)
    with pytest.raises(RuntimeError, match="a defect"):
        train("run")


@pytest.mark.parametrize("share", [1, 7, 32, 85])
def test_sizes(share):
    found = sizes(share)
    assert found == sorted({-(-share // n) for n in range(1, share + 1)})
    assert found[0] == 1 and found[-1] == share


def test_divided():
    assert _divided(32, 11, 1) == (8, 4)
    assert _divided(32, 3, 4) == (8, 4)  # two on each of four
    assert _divided(13, 6, 1) == (5, 3)  # 13 has no divisor but 1: nearly so
    assert _divided(6, 1, 2) == (2, 3)


def test_what_is_out_of_memory():
    for message in (
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)",
    ):
        assert is_out_of_memory(RuntimeError(message))
    assert is_out_of_memory(torch.OutOfMemoryError("XPU out of memory"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
