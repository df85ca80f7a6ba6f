"""Where metrics go: always a CSV file in the run directory, and Weights & Biases when asked for."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class MetricsCSV(Logger):
    """Appends every metric to `metrics.csv` in tidy form: epoch, step, metric, value.

    (Lightning's CSVLogger deletes an existing file, and with it the history before a restart.)

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.file = Path(directory) / "metrics.csv"

    @property
    def name(self) -> str:
        """What kind of logger this is."""
        return "csv"

    @property
    def version(self) -> str:
        """Runs are told apart by their directories."""
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


def wandb_logger(directory: str, name: str, project: str = "neuro_ssl", mode: str = "auto") -> WandbLogger:
    """Weights & Biases; without an account it works offline, and asks nothing.

    Args:
        directory: the run directory; the tracker's files go to its `wandb` folder.
        name: of the run.
        project: on the dashboard.
        mode: `online`, `offline`, or `auto`: online when a key is configured.
    """
    import wandb

    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
    logger = WandbLogger(
        project=project,
        name=name,
        save_dir=directory,
        offline=mode == "offline",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=mode == "offline"),
    )
    if mode == "offline":
        print(f"W&B is offline; to publish this run later: wandb sync {directory}/wandb/offline-run-*")
    return logger
