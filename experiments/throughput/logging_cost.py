"""What logging costs: steps of the same training with all loggers and without any, taking turns in one process.

    python experiments/throughput/logging_cost.py
    python experiments/throughput/logging_cost.py --every 1

SimCLR with the 3D ResNet-18 through the Lightning trainer, with the callbacks that log in every run (throughput,
health and gradient norm) and `logger=[wandb,tensorboard]`, W&B offline; without: neither. Volumes are noise, and an
epoch has as many steps as `--steps`. One thread computes, and seconds are processor time of this process, which other
work on the machine stretches little. Told are, per step,

    ratio            of a step's time with and without; some percent of noise hide what it looks for
    loggers          by a stopwatch within them
    callbacks        in the hooks of throughput and health, without the loggers that these call
    gradient norm    of steps that are logged: of 33 M numbers, however large the volumes
    W&B's service    processor time of its own process, which runs beside, mostly to sample the machine's load

Prints a table in Markdown.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import lightning.pytorch as L
import pandas as pd
import psutil
import torch
from torch.utils.data import DataLoader

from neuro_ssl import callbacks
from neuro_ssl.benchmarking.step import NoViews
from neuro_ssl.console import quiet_libraries
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.tracking import MetricsCSV, tensorboard_logger, wandb_logger


class Clock(L.Callback):
    """Processor time from the second step's start to the last one's end, in which all logging lies."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1:
            self.begin = time.process_time()

    def on_train_epoch_end(self, trainer, pl_module):
        self.seconds = (time.process_time() - self.begin) / (trainer.global_step - 1)


class Stopwatch:
    """Sums up the time within functions, by kind, without the time within others that they call."""

    seconds, calls, _within = Counter(), Counter(), [0.0]

    def __init__(self, kind, function):
        self.kind, self.function = kind, function

    def __call__(self, *args, **kwargs):
        Stopwatch._within.append(0.0)
        begin = time.process_time()
        try:
            return self.function(*args, **kwargs)
        finally:
            took = time.process_time() - begin
            Stopwatch.seconds[self.kind] += took - Stopwatch._within.pop()
            Stopwatch.calls[self.kind] += 1
            Stopwatch._within[-1] += took


def watched(callback):
    """With stopwatches at its hooks."""
    for name in ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_end"):
        kind = "gradient norm" if name == "on_before_optimizer_step" else "callbacks"
        if name in vars(type(callback)):
            setattr(callback, name, Stopwatch(kind, getattr(callback, name)))
    return callback


def train(task, batch, steps, every, loggers):
    """Processor seconds a step."""
    clock = Clock()
    scans = pd.Series([str(i) for i in range(len(batch["scan"]))])
    watching = [watched(one) for one in (callbacks.Throughput(), callbacks.Health(scans))] if loggers else []
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        callbacks=[*watching, clock],
        logger=loggers or False,
        log_every_n_steps=every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader([batch] * (steps + 1), batch_size=None))
    return clock.seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(38, 48, 48), help="of a volume, (z, y, x)")
    parser.add_argument("--scans", type=int, default=2, help="a step; two volumes each")
    parser.add_argument("--steps", type=int, default=50, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--every", type=int, default=50, help="log_every_n_steps; 50 is the default of runs")
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    L.seed_everything(0, verbose=False)
    n = arguments.scans
    batch = {"volume": torch.randn(n, 1, *arguments.shape)}
    batch |= {name: torch.arange(n) for name in ("scan", "subject", "draw")} | {
        "epoch": torch.zeros(n, dtype=torch.long)
    }
    task = SimCLR(ResNet3D(), NoViews(), Optimizer(), seed=0)
    train(task, batch, 2, 1, [])  # what happens once
    with tempfile.TemporaryDirectory() as folder:
        wandb = wandb_logger(folder, "cost", mode="offline")
        loggers = [MetricsCSV(folder, "cost"), wandb, tensorboard_logger(folder)]
        _ = wandb.experiment
        for logger in loggers:
            logger.log_metrics = Stopwatch(type(logger).__name__.strip("_"), logger.log_metrics)
        services = [process for process in psutil.Process().children(recursive=True) if "wandb" in process.name()]
        used, pairs = service_seconds(services), []
        for _ in range(arguments.rounds):
            pairs.append([train(task, batch, arguments.steps, arguments.every, on) for on in ([], loggers)])
        used = service_seconds(services) - used
        rows = len((Path(folder) / "metrics.csv").read_text().splitlines()) - 1
    steps = arguments.rounds * arguments.steps
    without, ratio = median(pair[0] for pair in pairs), [pair[1] / pair[0] for pair in pairs]
    each = ", ".join(f"{one:.3f}" for one in ratio)
    print(f"log_every_n_steps={arguments.every}, {rows} scalars in {steps} steps, a step without: {without:.3f} s")
    print(f"ratio of a step with and without, median (each round): {median(ratio):.3f} ({each})")
    print("\n| part | ms a step | of a step | ms a call |\n|---|---|---|---|")
    for kind, seconds in [*Stopwatch.seconds.items(), ("W&B's service, beside", used)]:
        calls = Stopwatch.calls[kind]
        of_call = f"{1e3 * seconds / calls:.2f}" if calls else ""
        print(f"| {kind} | {1e3 * seconds / steps:.3f} | {seconds / steps / without:.2%} | {of_call} |")


def service_seconds(processes):
    """Processor time of W&B's service."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
