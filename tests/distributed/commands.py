"""The real training command on two processes of this machine, to be disturbed from outside."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

LAUNCHERS = ("lightning", "torchrun")


def arguments(store, runs, *more):
    """Of a SimCLR pretraining on two processes with gloo."""
    return [
        *("+experiment=simclr_pretrain", "encoder.width=8", "encoder.norm=group", "batch_size=4", "num_workers=0"),
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={store.path.parents[2]}", f"runs_dir={runs}"),
        *("strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"),
        *("trainer.sync_batchnorm=false", "logger=csv", *more),
    ]


def listen_to_ctrl_c():
    """A shell that started the tests in the background had them ignore it, and they would pass that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """The command, started; its output goes to a file."""

    def __init__(self, launcher, folder, arguments, **environment):
        self.output = Path(folder) / f"output {time.monotonic()}.txt"
        command = [sys.executable, "-m", "neuro_ssl.train", *arguments]
        if launcher == "torchrun":
            command[1:3] = [
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node=2",
                "-m",
                "neuro_ssl.train",
            ]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
                preexec_fn=listen_to_ctrl_c,
            )
        self.launcher, self.children = launcher, {}

    def ranks(self):
        """Processes by rank, once both are there."""
        process = psutil.Process(self.process.pid)
        children = process.children()
        if self.launcher == "lightning":
            children = [process, *(child for child in children if "LOCAL_RANK" in child.environ())]
        self.children = {int(child.environ().get("LOCAL_RANK", 0)): child for child in children}
        return self.children

    def wait_for(self, condition, seconds=120):
        """Until it is true of the run; the command must not end before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def end(self, seconds=60):
        """Wait for all its processes to be gone; how long that took in seconds."""
        start = time.monotonic()
        try:
            self.process.wait(seconds)
            psutil.wait_procs(self.children.values(), max(seconds - (time.monotonic() - start), 0))
        except subprocess.TimeoutExpired:
            pass
        left = [p.pid for p in self.children.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        for pid in {*left, *([] if self.process.poll() is not None else [self.process.pid])}:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert not left, (left, self.output.read_text())
        return time.monotonic() - start

    @property
    def text(self):
        """All that was printed."""
        return self.output.read_text()


def last_checkpoint(runs):
    """Where the run stands, or None; for a moment, the one before is the last one."""
    for name in ("last", "previous", "last"):
        for file in Path(runs).glob(f"*/checkpoints/{name}.ckpt"):
            with suppress(FileNotFoundError):
                return torch.load(file, weights_only=True)
    return None


def steps_of(text):
    """The steps that the line of a stop names."""
    return [int(step) for step in re.findall(r"after step (\d+)", text)]
