"""Early stopping: a run whose validation score no longer gets better ends before its last epoch."""

from typing import Literal

import lightning.pytorch as L
from lightning.pytorch.callbacks.early_stopping import EarlyStopping as LightningEarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from neuro_ssl.errors import InputError


class EarlyStopping(LightningEarlyStopping):
    """Lightning's, which a stopped run also keeps to when it is started again.

    (Lightning keeps the reason in the checkpoint, but not that training is over: it would go on.)

    It looks at the validation split alone, at the score that chooses the best epoch, and counts validations (one an
    epoch, unless the trainer is told otherwise) that were no better than the best.

    Args:
        patience: how many of them in a row end the run.
        monitor: validation metric.
        mode: whether a smaller or a larger value of it is better.

    Raises:
        InputError: no patience.
    """

    def __init__(self, patience: int, monitor: str, mode: Literal["min", "max"] = "min") -> None:
        if patience < 1:
            raise InputError(f"early_stopping_patience must be at least 1, or null to go through; got {patience}")
        # Lightning's check for NaN is left to Health, which says what made it.
        super().__init__(monitor, patience=patience, mode=mode, check_finite=False, check_on_train_epoch_end=False)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What was stopped stays so."""
        trainer.should_stop = self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say that it is over, and why."""
        if trainer.is_global_zero and self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            epoch = f"{self.stopped_epoch + 1} of {trainer.max_epochs}"
            times = f"{self.patience} validation{'s' if self.patience > 1 else ''}"
            print(f"stopped after epoch {epoch}: {self.monitor} got no better in {times}")
