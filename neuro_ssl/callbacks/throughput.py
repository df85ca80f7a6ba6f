"""How fast training is, and what it waits for; measured without making the device wait.

    throughput/scans_per_s    training scans, over all processes; validation and saving are left out
    throughput/waiting_share  of that time in which the device had nothing to do but wait for the next batch
    throughput/memory_gb      most memory so far: of the GPU's, or without one the process's
    throughput/mfu            model FLOPs utilisation (Chowdhery et al. 2022): what the encoder's arithmetic, counted
                              once, needs of the device's peak; where both are known (`neuro_ssl.flops`)

Lightning's ThroughputMonitor doesn't fit: it waits for the device in every step, takes all batches for equally large
and the first process for all, and knows nothing of waiting.
"""

import resource
import sys
import time
import warnings
from statistics import fmean
from typing import Any

import lightning.pytorch as L
import torch

from neuro_ssl.callbacks.intervals import logging_is_due
from neuro_ssl.data.batches import Batch
from neuro_ssl.distributed import gather_rows, world_size
from neuro_ssl.flops import peak_flops, training_flops

Moment = float | torch.cuda.Event


class Throughput(L.Callback):
    """Logs throughput every `log_every_n_steps` steps of the trainer.

    It belongs before all other callbacks: a step ends where its `on_train_batch_end` begins. A task says with
    `views_per_scan` how many volumes it shows its encoder of each scan, if not one.

    Args:
        peak: floating-point operations a second that the device can do at most; None: look it up.
    """

    def __init__(self, peak: float | None = None) -> None:
        self.peak = peak
        # Of the interval: begin and end of every step, and begin and end of every wait for a batch.
        self._steps: list[tuple[Moment, Moment]] = []
        self._waits: list[tuple[Moment, Moment]] = []
        self._begin: Moment = 0.0
        self._waiting_since: Moment | None = None
        self._scans = self._volumes = 0
        self._volume_flops: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Once the device is known."""
        self.peak = self.peak or peak_flops(pl_module.device, str(trainer.precision))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first batch is waited for from here."""
        self._waiting_since = _now(pl_module.device)

    def on_save_checkpoint(self, *args: Any) -> None:
        """Saving is no waiting for data."""
        self._waiting_since = None

    def on_validation_start(self, *args: Any) -> None:
        """Nor is validation within an epoch."""
        self._waiting_since = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """The batch is there."""
        self._begin = _now(pl_module.device)
        if self._waiting_since is not None:
            self._waits.append((self._waiting_since, self._begin))
        if self.peak and self._volume_flops is None and "volume" in batch:
            self._volume_flops = self._count(pl_module, batch)
            self._begin = _now(pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """The step is done; log when it is time to."""
        self._waiting_since = _now(pl_module.device)
        self._steps.append((self._begin, self._waiting_since))
        self._scans += len(batch["scan"])
        if "volume" in batch:  # else the encoder's features, computed once
            self._volumes += len(batch["scan"]) * int(getattr(pl_module, "views_per_scan", 1))
        if logging_is_due(trainer):
            self._log(trainer, pl_module)
            self._steps, self._waits, self._scans, self._volumes = [], [], 0, 0
            self._waiting_since = _now(pl_module.device)

    def _count(self, pl_module: L.LightningModule, batch: Batch) -> int:
        encoder: Any = pl_module.encoder
        try:
            return training_flops(encoder, batch["volume"].shape[2:])
        except (RuntimeError, NotImplementedError) as error:  # an encoder that looks into its tensors
            warnings.warn(f"throughput/mfu is left out: the encoder's FLOPs cannot be counted ({error})", stacklevel=2)
            return 0

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        device = pl_module.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        step = fmean(_seconds(*step) for step in self._steps)
        # Some waits are not known: those in which a checkpoint was saved.
        wait = fmean(_seconds(*wait) for wait in self._waits) if self._waits else 0.0
        seconds = len(self._steps) * (wait + step)
        flops = self._volumes * (self._volume_flops or 0)
        waiting_share = wait / (wait + step) if self._waits else -1.0
        row = [self._scans, seconds, waiting_share, peak_memory_gb(device), flops]
        ranks, _ = gather_rows(torch.tensor([row], dtype=torch.float32, device=device))
        # Steps end together; the process that waits most, or needs most memory, is the one to look at.
        scans, _, _, _, all_flops = ranks.sum(dim=0).tolist()
        _, longest, waiting_share, memory_gb, _ = ranks.amax(dim=0).tolist()
        values = {"scans_per_s": scans / longest, "memory_gb": memory_gb}
        if waiting_share >= 0:  # else a checkpoint was saved in every wait
            values["waiting_share"] = waiting_share
        if self.peak and all_flops:
            values["mfu"] = all_flops / (longest * self.peak * world_size())
        # (Lightning's `log` would log the last value again where there is no new one.)
        named = {f"throughput/{name}": value for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics({**named, "epoch": trainer.current_epoch}, trainer.global_step - 1)


def _now(device: torch.device) -> Moment:
    """A moment in the device's own order of work: on a GPU when it gets there, which nobody waits for."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(begin: Moment, end: Moment) -> float:
    if isinstance(begin, float) or isinstance(end, float):
        assert isinstance(begin, float) and isinstance(end, float)
        return end - begin
    return float(begin.elapsed_time(end)) / 1e3


def peak_memory_gb(device: torch.device) -> float:
    """Of what PyTorch holds on the GPU; without one, of this process (its loading workers not counted)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
