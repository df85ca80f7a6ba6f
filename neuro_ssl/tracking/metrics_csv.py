"""The history of a run as a table, which every run has."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.errors import InputError


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
        """Append one row a metric.

        Raises:
            InputError: the file cannot be written.
        """
        epoch = metrics.get("epoch")
        rows = [
            [None if epoch is None else int(epoch), step, name, f"{value:.9g}"]
            for name, value in metrics.items()
            if name != "epoch"
        ]
        new = not self.file.exists()
        try:
            with self.file.open("a", newline="") as stream:
                writer = csv.writer(stream)
                if new:
                    writer.writerow(["epoch", "step", "metric", "value"])
                writer.writerows(rows)
        except OSError as error:
            raise InputError(
                f"cannot write {self.file}: {error.strerror}; make room there, then the same command goes on from the "
                "last checkpoint"
            ) from error
