"""The whole of pretraining, loader attached: scans a second and the share of the time spent waiting for them.

Both sides train the same encoder and head on the same scans, in batches of the same size, with the same number of
loading processes, on the same device: the paper's way in a plain loop, ours in Lightning's, without the loggers and
checkpoints of `neuro_ssl.train`. The device is waited for before each look at the clock, on both sides. The first steps
don't count: compilers and caches warm up, and loading processes fill their queues; what remains is the waiting of
processes that can't keep up.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightning.pytorch as L
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from neuro_ssl.benchmarking import reference
from neuro_ssl.benchmarking.material import Material
from neuro_ssl.benchmarking.measurement import OURS, REFERENCE, Measurement, now
from neuro_ssl.data.datamodule import SSLDataModule

WARMUP_STEPS = 5


class Clock(L.Callback):
    """When each step's batch arrived, and when it was done with."""

    def __init__(self) -> None:
        self.arrived: list[float] = []
        self.done: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The time from which the first batch is waited for."""
        self.done.append(now(str(pl_module.device)))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is there."""
        self.arrived.append(now(str(pl_module.device)))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The device has finished the step."""
        self.done.append(now(str(pl_module.device)))


def our_side(material: Material, task: L.LightningModule, settings: dict[str, Any], loading: dict[str, Any]) -> Clock:
    """Train by Lightning.

    Args:
        material: the scans.
        task: with a fresh encoder.
        settings: of Lightning's trainer: `accelerator`, `precision`, `max_steps`.
        loading: `batch_size` and `num_workers`.
    """
    rows = material.store.manifest
    train, rest = rows[rows["split"] == "train"], rows[rows["split"] != "train"]
    copies = -(-settings["max_steps"] * loading["batch_size"] // len(train))  # one epoch for all steps
    repeated = pd.concat([train.assign(scan_id=train["scan_id"] + f"-{i}") for i in range(copies)] + [rest])
    store = replace(material.store, manifest=repeated.reset_index(drop=True))
    clock = Clock()
    trainer = L.Trainer(
        **settings,
        devices=1,
        max_epochs=-1,
        callbacks=[clock],
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, SSLDataModule(store, **loading))
    return clock


def reference_side(
    material: Material, encoder: nn.Module, device: str, max_steps: int, batch_size: int, num_workers: int
) -> Clock:
    """Train in the paper's way: views made by loading processes, float32, Adam.

    Args:
        material: the scans.
        encoder: a fresh one.
        device: where it trains.
        max_steps: for how long.
        batch_size: pairs a step.
        num_workers: loading processes; 0 loads in the training process.
    """
    width = int(encoder.embed_dim)  # type: ignore[arg-type]
    head = nn.Sequential(nn.Linear(width, 512, bias=False), nn.ReLU(), nn.Linear(512, 64, bias=False))
    model = nn.Sequential(encoder, head).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    clock = Clock()
    clock.done.append(now(device))
    for views in _batches(material, max_steps, batch_size, num_workers):
        clock.arrived.append(now(device))
        first, second = (model(view.to(device)) for view in views)
        optimizer.zero_grad()
        reference.nt_xent(first, second, 0.5).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        clock.done.append(now(device))
    return clock


def _batches(material: Material, max_steps: int, batch_size: int, num_workers: int) -> Iterator[list[Tensor]]:
    pairs = reference.Pairs(material.images, material.masks, material.store.grid.shape)
    sampler = RandomSampler(pairs, replacement=True, num_samples=max_steps * batch_size)
    loader: DataLoader[Any] = DataLoader(
        pairs,
        batch_size,
        sampler=sampler,
        num_workers=num_workers,
        worker_init_fn=reference.seed_worker,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


def measured(clock: Clock, side: str, batch_size: int, what: str) -> Measurement:
    """What a clock says of the steps after the first.

    Args:
        clock: of a training.
        side: whose it was.
        batch_size: pairs a step.
        what: it was, in words.
    """
    steps = [end - start for start, end in zip(clock.done, clock.done[1:], strict=False)][WARMUP_STEPS:]
    waits = [arrived - before for before, arrived in zip(clock.done, clock.arrived, strict=False)][WARMUP_STEPS:]
    return Measurement(
        "end_to_end",
        what,
        side,
        seconds=sum(steps) / len(steps) / batch_size,  # the mean: a batch that comes late costs what it costs
        unit="scan",
        low=min(steps) / batch_size,
        high=max(steps) / batch_size,
        repetitions=len(steps),
        waiting=sum(waits) / sum(steps),
    )


def end_to_end(
    material: Material,
    task: L.LightningModule,
    encoder: nn.Module,
    *,
    device: str,
    precision: str,
    batch_size: int,
    num_workers: int,
    n_steps: int,
) -> list[Measurement]:
    """Seconds a scan of both sides.

    Args:
        material: the scans.
        task: ours, with an encoder of its own.
        encoder: the reference's, of the same kind.
        device: `cpu` or `cuda`, where both train.
        precision: of ours; the reference has float32.
        batch_size: pairs a step.
        num_workers: loading processes of each side.
        n_steps: steps that count.
    """
    max_steps = WARMUP_STEPS + n_steps
    loading = {"batch_size": batch_size, "num_workers": num_workers}
    settings = {"accelerator": "cpu" if device == "cpu" else "gpu", "precision": precision, "max_steps": max_steps}
    what = f"batches of {batch_size}, {num_workers} loading processes"
    ours = our_side(material, task, settings, loading)
    theirs = reference_side(material, encoder, device, max_steps, **loading)
    return [
        measured(ours, OURS, batch_size, f"{what}, {precision}"),
        measured(theirs, REFERENCE, batch_size, f"{what}, float32, views made while loading"),
    ]
