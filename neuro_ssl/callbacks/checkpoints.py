"""Checkpoints that a run can be killed between: written aside, synced, renamed; the one before is kept.

last.ckpt      where training stands; `previous.ckpt` is the one before it
best.ckpt      the best epoch by a validation metric, for tasks that choose by one
"""

import copy
import os
import time
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
from torch import Tensor

from neuro_ssl.distributed import gather_rows, rank, world_size
from neuro_ssl.files import appearing
from neuro_ssl.tasks.running_mean import RunningSums


class Checkpoints(L.Callback):
    """Saves where training stands every so many minutes, mid-epoch too, and the best epoch.

    Args:
        directory: where checkpoints lie.
        every_minutes: time between saves, and so the most that a kill can cost; 0 saves after every step.
        monitor: validation metric that chooses the best epoch; None: no epoch is best, the last is what counts.
        mode: whether a smaller or a larger value of it is better. Of equal epochs the first is kept.
    """

    def __init__(
        self,
        directory: Path,
        every_minutes: float,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        self.directory, self.every_minutes, self.monitor, self.mode = directory, every_minutes, monitor, mode
        self.best_score: float | None = None
        self._last_save = time.monotonic()
        self._end_of_epoch: dict[str, Any] | None = None

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.directory / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint that training goes on from."""
        return self.directory / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score."""
        self.best_score = state_dict["best_score"]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Within an epoch; after its last batch comes validation, and then the save between epochs."""
        if not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep this epoch if it is the best so far."""
        if self.monitor is None or trainer.sanity_checking:
            return
        value = trainer.callback_metrics[self.monitor]
        score = float(value.item() if isinstance(value, Tensor) else value)
        better = self.best_score is None or (score < self.best_score if self.mode == "min" else score > self.best_score)
        if better:
            self.best_score = score
            self._save(trainer, self.best)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the trainer's progress at the end of the epoch, whose metrics are logged only after this."""
        self._end_of_epoch = copy.deepcopy(trainer.fit_loop.state_dict())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Between epochs: everything of the last one is logged, nothing of this one has happened."""
        if self._end_of_epoch is not None:
            self._save_if_due(trainer)
            self._end_of_epoch = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Between epochs, describe the end of the last one: Lightning resumes from there, not from a fresh start.

        Weights are laid out as usual, whatever the encoder's `channels_last`. Means over the epoch so far are those of
        all processes, of which only the first one's state is written.
        """
        weights = {name: value.contiguous() for name, value in checkpoint["state_dict"].items()}
        for prefix, module in pl_module.named_modules():
            if isinstance(module, RunningSums):
                for name, value in module.state_dict(prefix=f"{prefix}.").items():
                    whole = gather_rows(value[None], [1] * world_size())[0].sum(dim=0)
                    if name in weights:  # of sharded weights, the first process alone has the whole
                        weights[name] = whole
        checkpoint["state_dict"] = weights
        if self._end_of_epoch is not None:
            checkpoint["loops"]["fit_loop"] = self._end_of_epoch

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """The first process goes on with what was summed over all; the others begin their sums anew."""
        if rank() > 0:
            for module in pl_module.modules():
                if isinstance(module, RunningSums):
                    module.reset()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The final state, which pretraining hands on."""
        self._save(trainer, self.last)

    def _save_if_due(self, trainer: L.Trainer) -> None:
        due = time.monotonic() - self._last_save >= 60 * self.every_minutes
        if trainer.world_size > 1:  # clocks differ, and all processes must take part
            due = trainer.strategy.broadcast(due)
        if due:
            self._save(trainer, self.last)
            self._last_save = time.monotonic()

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path)  # takes part; only the first process writes
            return
        with appearing(path) as temporary:
            trainer.save_checkpoint(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if path == self.last and path.exists():
                path.replace(path.with_name("previous.ckpt"))
