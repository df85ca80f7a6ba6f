"""What each option of a training step is worth: seconds, memory, and what its first step costs.

    python experiments/throughput/step_options.py --device cpu --shape 75 96 96 --scans 2 --rounds 3
    python experiments/throughput/step_options.py --device cuda --shape 150 192 192 --scans 8

A step of SimCLR with the 3D ResNet-18 through the Lightning trainer: two volumes a scan, forward, loss, backward and
AdamW. Views are left out: the volumes are noise, and on the device before time is taken. Each measurement is a process
of its own, with nothing compiled before; the options take turns, so that other work on the machine meets all of them,
and each is compared with `plain` of its own round. On the CPU one thread computes, and the seconds are its processor
time, which other work stretches little. Prints a table in Markdown.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from neuro_ssl.acceleration import Acceleration
from neuro_ssl.benchmarking.step import NoViews
from neuro_ssl.callbacks.throughput import peak_memory_gb
from neuro_ssl.console import quiet_libraries
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR

# Of acceleration, trainer, optimizer and encoder, what differs from the defaults.
OPTIONS = {
    "plain": {},  # all of them off
    "fused": {"optimizer": {"fused": True}},
    "channels_last": {"acceleration": {"channels_last": True}},
    "compile": {"acceleration": {"compile": True}},
    "compile, channels_last": {"acceleration": {"compile": True, "channels_last": True}},
    "checkpoint_stages=1": {"encoder": {"checkpoint_stages": 1}},
    "checkpoint_stages=2": {"encoder": {"checkpoint_stages": 2}},
    "bf16-mixed": {"trainer": {"precision": "bf16-mixed"}},
    "bf16-mixed, channels_last": {"trainer": {"precision": "bf16-mixed"}, "acceleration": {"channels_last": True}},
}
ON_GPUS = {
    "benchmark": {"trainer": {"benchmark": True}},
    "bf16-mixed, channels_last, benchmark": {
        "trainer": {"precision": "bf16-mixed", "benchmark": True},
        "acceleration": {"channels_last": True},
    },
    "all but checkpointing": {
        "trainer": {"precision": "bf16-mixed", "benchmark": True},
        "acceleration": {"channels_last": True, "compile": True},
        "optimizer": {"fused": True},
    },
}


class Clock(L.Callback):
    """Seconds of each step; the device is waited for, which training does not do."""

    def __init__(self):
        self.seconds = []

    def on_train_batch_start(self, trainer, pl_module, *args):
        self._begin = self._now(pl_module.device)

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.seconds.append(self._now(pl_module.device) - self._begin)

    def _now(self, device):
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()


def measure(options, arguments):
    """Of one option: median and first seconds a step, and memory."""
    torch.set_num_threads(1)
    L.seed_everything(0, verbose=False)
    encoder = ResNet3D(stem_stride=arguments.stem_stride, **options.get("encoder", {}))
    clock, n = Clock(), arguments.scans
    trainer = L.Trainer(
        accelerator=arguments.device,
        devices=1,
        max_epochs=1,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options.get("trainer", {}),
    )
    Acceleration(**options.get("acceleration", {})).apply(encoder, trainer.strategy.root_device)
    task = SimCLR(encoder, NoViews(), Optimizer(**{"fused": False, **options.get("optimizer", {})}), seed=0)
    numbers = torch.arange(n)
    batch = {"volume": torch.randn(n, 1, *arguments.shape), **dict.fromkeys(["scan", "subject", "draw"], numbers)}
    batch["epoch"] = torch.zeros(n, dtype=torch.long)
    trainer.fit(task, DataLoader([batch] * (arguments.steps + 1), batch_size=None))
    device = trainer.strategy.root_device
    return {"first": clock.seconds[0], "seconds": median(clock.seconds[1:]), "memory": peak_memory_gb(device)}


def in_a_process(name):
    """The same in a fresh process, with an empty cache of compiled code."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", type=int, nargs=3, default=(75, 96, 96), help="of a volume, (z, y, x)")
    parser.add_argument("--scans", type=int, default=2, help="a step; two volumes each")
    parser.add_argument("--stem-stride", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed, after a first one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", nargs="+", metavar="NAME", help="some of them; plain always")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = OPTIONS | (ON_GPUS if arguments.device == "cuda" else {})
    if "checkpoint_stages" not in inspect.signature(ResNet3D).parameters:
        known = {name: option for name, option in known.items() if "encoder" not in option}
    if arguments.only:
        quiet_libraries()
        print(json.dumps(measure(known[arguments.only], arguments)))
        return
    names = [name for name in known if name == "plain" or not arguments.options or name in arguments.options]
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append({name: in_a_process(name) for name in names})
        print(json.dumps(rounds[-1]), file=sys.stderr)
    print("| option | seconds a step | × plain (each round) | first step, s | memory, GB |\n|---|---|---|---|---|")
    for name in names:
        of = [one[name] for one in rounds]
        ratios = [one[name]["seconds"] / one["plain"]["seconds"] for one in rounds]
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"| {name} | {median(o['seconds'] for o in of):.3g} | {median(ratios):.2f} ({each}) "
            f"| {median(o['first'] for o in of):.3g} | {max(o['memory'] for o in of):.2f} |"
        )


if __name__ == "__main__":
    main()
