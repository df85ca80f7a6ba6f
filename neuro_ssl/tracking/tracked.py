"""A run as its trackers see it: begun or gone on with, trained, and ended in one way or another."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.errors import Interrupted, Pruned
from neuro_ssl.run import RunDirectory
from neuro_ssl.tracking.description import Description, summary_of
from neuro_ssl.tracking.lineage import made_by, used_by
from neuro_ssl.tracking.metrics_csv import MetricsCSV
from neuro_ssl.tracking.tensorboard import _TensorBoard
from neuro_ssl.tracking.weights_and_biases import Wandb, finish_wandb


@rank_zero_only
def begin_tracking(
    loggers: list[Logger], run: RunDirectory, resume_from: Path | None, sweep: str | None = None
) -> None:
    """Tell the trackers what the run is, and give them the history from before a restart.

    That history is `metrics.csv`, cut back to the checkpoint: so that each has the whole of it once, also one that was
    not asked for at first. W&B offline makes a folder of its own at every start, whose steps may be trained again: one
    new folder takes the place of all. W&B's server goes on with the run of the same name.

    Args:
        loggers: before they have logged anything.
        run: begun (see `RunDirectory.begin`).
        resume_from: the checkpoint that it goes on from.
        sweep: name of the sweep that it is a point of.
    """
    trackers = [logger for logger in loggers if not isinstance(logger, MetricsCSV)]
    if not trackers:
        return
    record = run.record
    description = Description.of(record, sweep)
    step = 0
    if resume_from:
        step = torch.load(resume_from, weights_only=True, map_location="meta")["global_step"]
    for logger in trackers:
        if isinstance(logger, Wandb):
            logger.describe(description)
        if isinstance(logger, Wandb | _TensorBoard) and not logger.goes_on_at(step):
            _replay(logger, run.path / "metrics.csv")
        logger.log_hyperparams(description.config)
        if isinstance(logger, Wandb):
            logger.replay_pictures(step)
            for reference in used_by(record).values():
                logger.refer(reference, used=True)


def _replay(logger: Logger, file: Path) -> None:
    if not file.exists():
        return
    history = pd.read_csv(file)
    for step in history["step"].unique():
        rows = history[history["step"] == step]
        values = dict(zip(rows["metric"], rows["value"], strict=True)) | {"epoch": rows["epoch"].iloc[0]}
        logger.log_metrics({name: value for name, value in values.items() if not pd.isna(value)}, int(step))


@contextmanager
def tracked(loggers: list[Logger], run: RunDirectory) -> Iterator[None]:
    """Within it a run is trained; however it ends, its trackers are told, and closed.

    A run whose record says that it is finished is told of as finished, though what is left to draw may fail.

    Args:
        loggers: of the run.
        run: its directory.
    """
    try:
        yield
    except BaseException as error:
        status = "pruned" if isinstance(error, Pruned) else "stopped" if isinstance(error, _STOPS) else "failed"
        try:
            _conclude(loggers, run, status)
        except Exception as of_tracker:  # what ended the run is what is to be told
            warnings.warn(f"the tracker was not told that the run {status}: {of_tracker}", stacklevel=2)
        raise
    _conclude(loggers, run, "finished")


_STOPS = (Interrupted, KeyboardInterrupt)


@rank_zero_only
def _conclude(loggers: list[Logger], run: RunDirectory, status: str) -> None:
    record = run.record
    if record.get("status") == "finished":
        status = "finished"
    for logger in loggers:
        if isinstance(logger, Wandb) and logger.begun:
            logger.conclude(summary_of(run.path, record, status))
            if status == "finished":
                logger.refer(made_by(run.path, record), used=False)
                logger.log_predictions(run.path / "predictions.parquet")
        logger.finalize("success" if status == "finished" else status)
    finish_wandb(exit_code=int(status in ("failed", "stopped")))
