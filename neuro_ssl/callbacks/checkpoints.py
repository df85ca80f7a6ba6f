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
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from neuro_ssl import signals
from neuro_ssl.distributed import Agreement, gather_rows, rank, world_size
from neuro_ssl.errors import InputError, Interrupted
from neuro_ssl.files import appearing, sync_folder
from neuro_ssl.tasks.running_mean import RunningSums

VALIDATES_ON_S = 15.0  # after a signal


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
        self._last_save, self._n_saves = time.monotonic(), 0
        self._wanted_saves, self._signum = 0, 0  # as all processes know
        self._agreement: Agreement  # from the start of training on
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

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep Lightning from listening to signals: its handlers save at any moment, to a file of their own.

        (On several processes they also talk to the others, and every step asks the device whether they were called.)
        """
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From now on there is something to save."""
        signals.training_begins()
        self._agreement = Agreement()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Within an epoch, after an optimiser's step; after the last batch comes validation, and then the next save.

        (Nor before a validation within an epoch, which a restart would leave out.)
        """
        self._agree(trainer)
        epoch, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        assert fetcher is not None
        ends = epoch._is_training_done or epoch._should_check_val_fx(fetcher)
        if not ends and not epoch._should_accumulate():
            self._save_if_due(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Stop between two batches, where validation would last longer than whoever sent a signal may wait.

        Raises:
            Interrupted: on all processes; what was trained since the last checkpoint will be trained again.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if self._agree(trainer):
            self._agreement.end()
            raise self._interrupted(trainer, "in the validation", "the same command goes on from the last checkpoint")

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
            self._agree(trainer)
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
        """The final state, which pretraining hands on, and downstream tasks are tested from.

        Raises:
            Interrupted: a signal asks a downstream task to stop before its test split is opened.
        """
        self._save(trainer, self.last)
        self._agree(trainer)
        _, signum, _ = self._agreement.end() or (0, 0, 0)
        self._signum = max(signum, self._signum)
        if self._signum and self.monitor is not None:
            raise self._interrupted(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Also where nothing was left to train: a test split that is opened from here on is not left by a signal.

        Raises:
            InputError: there is no best epoch to open it for.
        """
        signals.training_begins()
        if self.monitor is not None and self.best_score is None:
            raise InputError(
                f"training ended before {self.monitor} was measured, which chooses the epoch: train for an epoch at "
                "least, with validation (trainer.max_epochs, max_steps, limit_val_batches, check_val_every_n_epoch)"
            )

    def _agree(self, trainer: L.Trainer) -> bool:
        """Hear what the first process's clock asks for, and of a signal that any process got.

        Returns:
            Whether that was too long ago to wait any longer.
        """
        due = time.monotonic() - self._last_save >= 60 * self.every_minutes
        wanted = self._n_saves + 1 if due and trainer.is_global_zero else 0
        overdue = signals.received(seconds_ago=VALIDATES_ON_S)
        wanted, signum, overdue = self._agreement.reach(wanted, signals.received(), overdue)
        self._wanted_saves = max(wanted, self._wanted_saves)
        self._signum = max(signum, self._signum)
        return overdue > 0

    def _save_if_due(self, trainer: L.Trainer) -> None:
        """Save, if it is time to or a signal asks for it, and then stop.

        Raises:
            Interrupted: by the signal, on all processes.
        """
        if self._signum or not self.every_minutes or self._wanted_saves > self._n_saves:
            self._save(trainer, self.last)
            self._last_save, self._n_saves = time.monotonic(), self._n_saves + 1
        if self._signum:
            self._agreement.end()
            raise self._interrupted(trainer)

    def _interrupted(
        self,
        trainer: L.Trainer,
        how: str = "with its state saved",
        going_on: str = "the same command goes on from there",
    ) -> Interrupted:
        told = signals.stopped(self._signum, f"after step {trainer.global_step} {how}; {going_on}")
        return Interrupted(told if trainer.is_global_zero else "", self._signum)

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        """On all processes: each takes part, the first one writes.

        Raises:
            InputError: it could not; the checkpoints from before are as they were.
        """
        writer = _Writer(self.last)
        trainer.strategy.checkpoint_io = writer
        trainer.save_checkpoint(path)
        problem = trainer.strategy.broadcast(writer.problem)
        if problem is not None:
            raise InputError(f"{problem}; then the same command goes on from the last checkpoint")


class _Writer(TorchCheckpointIO):
    """Writes a checkpoint aside, syncs and renames it, and keeps what went wrong, which all processes are to hear of.

    (Lightning's makes a copy in memory and one in the system's temporary folder, neither of which need have room.)

    Args:
        last: the file of which the one before is kept.
    """

    def __init__(self, last: Path) -> None:
        super().__init__()
        self.last = last
        self.problem: str | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one file."""
        path = Path(path)
        try:
            with appearing(path) as temporary:
                _write(checkpoint, temporary)
                if path == self.last and path.exists():
                    path.replace(path.with_name("previous.ckpt"))
            sync_folder(path.parent)
        except InputError as error:
            self.problem = str(error)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # of the archive that could not be closed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())
