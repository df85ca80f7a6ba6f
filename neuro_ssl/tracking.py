"""Where metrics go: always a CSV file in the run directory, and Weights & Biases when asked for."""

import csv
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.processes import say


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
        """The run directory's `run.yaml` holds them already."""

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


class _Wandb(WandbLogger):
    """Keeps pictures of scans off the server, and out of what may be synced to it later, unless told otherwise."""

    images = False

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Add pictures, or leave them where they are: in the run directory."""
        if self.images:
            super().log_image(key, images, step, **kwargs)


def wandb_logger(
    directory: str,
    name: str,
    project: str = "neuro_ssl",
    mode: Literal["auto", "online", "offline"] = "auto",
    images: bool = False,
) -> WandbLogger:
    """Weights & Biases; without an account it works offline, and asks nothing.

    Args:
        directory: the run directory; the tracker's files go to its `wandb` folder.
        name: of the run.
        project: on the dashboard.
        mode: `online`, `offline`, or `auto`: online when a key is configured.
        images: take pictures of scans too. Data-use agreements commonly forbid that they leave the machine.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # its chatter; its errors are exceptions
    import wandb

    if mode == "auto":
        has_key = wandb.login(prompt=False, verify=False)
        mode = "online" if has_key and os.environ.get("WANDB_MODE", "online") == "online" else "offline"
    logger = _Wandb(
        project=project,
        name=name,
        id=name,
        resume="allow",
        save_dir=directory,
        offline=mode == "offline",
        settings=wandb.Settings(mode=mode, console="off"),
    )
    logger.images = images
    if mode == "offline":
        say(f"W&B is offline; to publish this run later: wandb sync {directory}/wandb/offline-run-*")
    return logger


@rank_zero_only
def replay_history(loggers: list[Logger], directory: Path) -> None:
    """Give an offline W&B run the history from before a restart, so that one folder holds the whole run.

    Offline, every start makes a folder of its own, and a killed one may hold steps that are trained again; all of it
    but the machine's statistics is in `metrics.csv`. (Online, the server goes on with the run of the same id.)

    Args:
        loggers: of the run, before they have logged anything.
        directory: the run directory, its history already cut back to the checkpoint.
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger) or not logger._offline:
            continue
        for folder in directory.glob("wandb/offline-run-*"):
            shutil.rmtree(folder)
        if (file := directory / "metrics.csv").exists():
            history = pd.read_csv(file)
            for step in history["step"].unique():
                rows = history[history["step"] == step]
                values = dict(zip(rows["metric"], rows["value"], strict=True)) | {"epoch": rows["epoch"].iloc[0]}
                logger.log_metrics({name: value for name, value in values.items() if not pd.isna(value)}, int(step))


def finish_tracking() -> None:
    """Close the tracker's run, so that the next run of the same process gets one of its own."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
