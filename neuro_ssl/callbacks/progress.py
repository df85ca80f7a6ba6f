"""One progress bar for the whole run: steps done, time left, the last metrics."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from neuro_ssl.console import progress_bar
from neuro_ssl.gpus import points_side_by_side


class Progress(ProgressBar):
    """Counts the run's optimiser steps."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Nothing to switch off: only the first process draws."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start where training starts, which after a restart isn't at zero."""
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            name = "training" if points_side_by_side() == 1 else Path(trainer.default_root_dir).name
            self.bar = progress_bar(total=total, initial=trainer.global_step, desc=name, unit="step")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Move on."""
        if self.bar is not None:
            self.bar.update(trainer.global_step - self.bar.n)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the epoch's metrics."""
        metrics = self.get_metrics(trainer, pl_module)  # of all processes, which must all take part
        if self.bar is not None:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float))
            self.bar.set_postfix_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, {shown}", refresh=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the bar as it ended."""
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """What is said of it begins a line of its own."""
        if self.bar is not None:
            self.bar.close()
