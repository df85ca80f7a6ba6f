"""Where metrics go: always a CSV file in the run directory, and Weights & Biases when asked for."""

import csv
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """Appends every metric to `metrics.csv` in tidy form: epoch, step, metric, value.

    (Lightning's CSVLogger deletes an existing file, and with it the history before a restart.)

    Args:
        directory: the run directory.
        name: of the run.
    """

    def __init__(self, directory: str, name: str) -> None:
        super().__init__()
        self.file, self._name = Path(directory) / "metrics.csv", name

    @property
    def name(self) -> str:
        """Name of the run."""
        return self._name

    @property
    def version(self) -> str:
        """A run has one history."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run directory's `config.yaml` holds them already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row a metric."""
        epoch = metrics.get("epoch")
        rows = [
            [None if epoch is None else int(epoch), step, name, f"{value:.9g}"]
            for name, value in metrics.items()
            if name != "epoch"
        ]
        new = not self.file.exists()
        with self.file.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["epoch", "step", "metric", "value"])
            writer.writerows(rows)


def wandb_logger(
    directory: str, name: str, project: str = "neuro_ssl", mode: Literal["auto", "online", "offline"] = "auto"
) -> WandbLogger:
    """Weights & Biases; without an account it works offline, and asks nothing.

    Args:
        directory: the run directory; the tracker's files go to its `wandb` folder.
        name: of the run.
        project: on the dashboard.
        mode: `online`, `offline`, or `auto`: online when a key is configured.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # its chatter; its errors are exceptions
    import wandb

    if mode == "auto":
        has_key = wandb.login(prompt=False, verify=False)
        mode = "online" if has_key and os.environ.get("WANDB_MODE", "online") == "online" else "offline"
    logger = WandbLogger(
        project=project,
        name=name,
        save_dir=directory,
        offline=mode == "offline",
        settings=wandb.Settings(mode=mode, console="off"),
    )
    if mode == "offline":
        print(f"W&B is offline; to publish this run later: wandb sync {directory}/wandb/offline-run-*")
    return logger


def finish_tracking() -> None:
    """Close the tracker's run, so that the next run of the same process gets one of its own."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
