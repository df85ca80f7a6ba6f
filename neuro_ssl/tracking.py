"""Where metrics go: always a CSV file in the run directory, and Weights & Biases when asked for."""

import csv
import os
import shutil
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.errors import InputError
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


INIT_S, FINISH_S = 30.0, 60.0  # that W&B's server has to answer at a start, and to take the rest at the end


class _Wandb(WandbLogger):
    """Keeps pictures of scans off the server, and out of what may be synced to it later, unless told otherwise.

    Attributes:
        images: whether it was told so.
        may_go_offline: what to do where the server does not answer at the start; else that is an error.
    """

    images = False
    may_go_offline = False

    def log_image(
        self, key: str, images: list[Any], step: int | None = None, aggregate: bool = False, **kwargs: Any
    ) -> None:
        """Add pictures, or leave them where they are, in the run directory; aggregates are always added."""
        if self.images or aggregate:
            super().log_image(key, images, step, **kwargs)

    @property
    def experiment(self) -> Any:
        """W&B's run, begun when it is first asked for.

        Raises:
            InputError: the server does not answer, or refuses the key.
        """
        import wandb

        folder = Path(self._wandb_init["dir"]) / "wandb"
        before = set(folder.glob("run-*"))
        try:
            return super().experiment
        except wandb.errors.CommError as error:
            why = str(error).splitlines()[-1].removeprefix("while retrying: ")
            if not self.may_go_offline:
                raise InputError(
                    f"logger.wandb.mode=online: W&B can't be reached ({why}); see to network and key, or set "
                    "logger.wandb.mode=offline"
                ) from error
            wandb.teardown()  # which else keeps the run's name in use
            for begun in set(folder.glob("run-*")) - before:
                shutil.rmtree(begun)
            self.go_offline(f"can't be reached ({why}), and this run is tracked offline")
            return super().experiment

    def go_offline(self, why: str = "is offline") -> None:
        """Write to the run directory alone, and say so."""
        self._offline = True
        self._wandb_init["settings"].mode = "offline"
        say(f"W&B {why}; to publish this run later: wandb sync {self._wandb_init['dir']}/wandb/offline-run-*")


def wandb_logger(
    directory: str,
    name: str,
    project: str = "neuro_ssl",
    mode: Literal["auto", "online", "offline"] = "auto",
    images: Literal["local", "upload"] = "local",
) -> WandbLogger:
    """Weights & Biases; without an account it works offline, and asks nothing.

    A server that does not answer within half a minute of the start is given up, for this start. One that is lost
    meanwhile neither stops nor slows a training: what it did not get lies in the run directory's `wandb` folder.

    Args:
        directory: the run directory; the tracker's files go to its `wandb` folder.
        name: of the run.
        project: on the dashboard.
        mode: `online`: a server that can't be reached is an error; `offline`; or `auto`: online when a key is
            configured and the server answers.
        images: `upload`: pictures of scans too. Data-use agreements commonly forbid that they leave the machine.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # its chatter; its errors are exceptions
    import wandb

    if wandb.run is not None:  # of a point of a sweep that failed
        wandb.run.finish(exit_code=1)
    logger = _Wandb(
        project=project,
        name=name,
        id=name,
        resume="allow",
        save_dir=directory,
        settings=wandb.Settings(
            mode="online", console="off", init_timeout=INIT_S, finish_timeout=FINISH_S, finish_timeout_raises=True
        ),
    )
    logger.images, logger.may_go_offline = images == "upload", mode == "auto"
    has_key = mode == "auto" and wandb.login(prompt=False, verify=False)
    if mode == "offline" or (mode == "auto" and not (has_key and os.environ.get("WANDB_MODE", "online") == "online")):
        logger.go_offline()
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
        if not isinstance(logger, WandbLogger):
            continue
        of_before = list(directory.glob("wandb/offline-run-*"))
        _ = logger.experiment  # which may show that it is to be offline
        if not logger._offline or list(directory.glob("wandb/run-*")):  # the server has what was before
            continue
        for folder in of_before:
            shutil.rmtree(folder)
        if (file := directory / "metrics.csv").exists():
            history = pd.read_csv(file)
            for step in history["step"].unique():
                rows = history[history["step"] == step]
                values = dict(zip(rows["metric"], rows["value"], strict=True)) | {"epoch": rows["epoch"].iloc[0]}
                logger.log_metrics({name: value for name, value in values.items() if not pd.isna(value)}, int(step))


def finish_tracking() -> None:
    """Close the tracker's run, so that the next run of the same process gets one of its own.

    Warns:
        UserWarning: the server did not take all of it in time.
    """
    if "wandb" not in sys.modules or (run := sys.modules["wandb"].run) is None:
        return
    folder = Path(run.dir).parent
    try:
        run.finish()
    except TimeoutError:
        warnings.warn(
            f"W&B's server did not take all of the run within {FINISH_S:g} s; to publish the rest later: wandb sync "
            f"{folder}",
            stacklevel=2,
        )
