"""From a downstream run's outputs to its prediction table and its scores; every score comes from that table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import pandas as pd

from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.distributed import gather_objects
from neuro_ssl.evaluation.calibration import with_decisions
from neuro_ssl.evaluation.scores import score_predictions
from neuro_ssl.tasks.supervised import Supervised

Outputs = Mapping[str, Any]  # for each split, what `Trainer.predict` returns for its one loader: a list of dicts
ABOUT_SCAN = ("scan_id", "subject_id", "session_id", "age_years", "sex", "site")


def evaluate(
    trainer: L.Trainer,
    task: Supervised,
    datamodule: SupervisedDataModule,
    checkpoint: Path,
    task_name: str,
    *,
    pretrained: bool,
    open_test: bool = True,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict the validation scans, and the test scans unless they stay closed, and tell the loggers how well.

    Args:
        trainer: that trained the task.
        task: see `downstream_results`, as the others.
        datamodule: whose test split this opens, or not.
        checkpoint: the weights to predict with.
        task_name: such as `brain_age`.
        pretrained: whether the encoder started from given weights.
        open_test: else the scores are those on the validation split.

    Returns:
        The predictions (`prediction_table`; of a classification with the decisions that thresholds from validation
        make), and the results (`downstream_results`), the same on all ranks.
    """
    outputs: Outputs = {"val": trainer.predict(task, datamodule.loader("val"), ckpt_path=checkpoint)}
    split: Literal["val", "test"] = "test" if open_test else "val"
    if open_test:
        outputs = {**outputs, "test": trainer.predict(task, datamodule.loader("test"), ckpt_path=checkpoint)}
    table = prediction_table(datamodule, outputs)
    if task.kind == "classification":
        table = with_decisions(table)
    results = downstream_results(task, datamodule, table, task_name, pretrained=pretrained, split=split)
    for logger in trainer.loggers if open_test else ():
        logger.log_metrics(as_metrics(results), trainer.global_step)
    return table, results


def prediction_table(datamodule: SupervisedDataModule, outputs: Outputs) -> pd.DataFrame:
    """One row a scan: who it is, split, target and prediction; gathered over ranks, each scan once.

    Args:
        datamodule: whose store's manifest the scans are rows of.
        outputs: for each split the `predict_step` results of this rank.
    """
    manifest = datamodule.store.manifest
    rows = []
    for split, batches in outputs.items():
        for batch in gather_objects(batches):
            columns = (batch[name].cpu().tolist() for name in ("scan", "target", "prediction"))
            rows += [(scan, split, target, prediction) for scan, target, prediction in zip(*columns, strict=True)]
    table = pd.DataFrame(rows, columns=["scan", "split", "target", "prediction"])
    table = table.drop_duplicates("scan").sort_values("scan").set_index("scan")
    about = manifest.loc[table.index, [name for name in ABOUT_SCAN if name in manifest]]
    return pd.concat([about, table], axis=1).reset_index(drop=True)


def downstream_results(
    task: Supervised,
    datamodule: SupervisedDataModule,
    table: pd.DataFrame,
    task_name: str,
    *,
    pretrained: bool,
    split: Literal["val", "test"] = "test",
) -> dict[str, Any]:
    """Scores on the test split with 95 % intervals, beside those of a model that ignores the image.

    That baseline predicts the training scans' mean (for classification, the share of the positive class).

    Args:
        task: what was trained; its two switches, frozen and pretrained, name the protocol.
        datamodule: what it was trained on.
        table: its predictions, see `prediction_table`.
        task_name: such as `brain_age`.
        pretrained: whether the encoder started from given weights.
        split: what to score; `val` where the test split stays closed.
    """
    scored = table[table["split"] == split]
    target = datamodule.datasets["train"].target
    assert target is not None
    constant = float(np.mean(target.numpy(), dtype=np.float64))
    baseline = scored.drop(columns=["decision", "decision_specific"], errors="ignore").assign(prediction=constant)
    trained = "finetune" if pretrained else "from_scratch"
    return {
        "task": task_name,
        "protocol": "linear_probe" if task.frozen else trained,
        "initialisation": "pretrained" if pretrained else "untrained",
        "kind": task.kind,
        "target": task.target,
        "unit": task.unit,
        "positive_class": task.classes[1] if task.classes else None,
        f"n_{split}_scans": len(scored),
        f"n_{split}_subjects": int(scored["subject_id"].nunique()),
        "scores": _as_dict(score_predictions(scored, task.kind)),
        "baseline": {
            "name": "share of the positive class" if task.classes else "mean of the training scans",
            "prediction": constant,
            "scores": _as_dict(score_predictions(baseline, task.kind)),
        },
    }


def as_metrics(results: dict[str, Any]) -> dict[str, float]:
    """Scores and their intervals in the form that loggers take: `test/mae`, `test/mae_low`, `test/mae_high`."""
    return {
        f"test/{metric}" if part == "value" else f"test/{metric}_{part}": value
        for metric, score in results["scores"].items()
        for part, value in score.items()
        if value is not None
    }


def _as_dict(scores: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Scores as JSON knows them: what is undefined is null."""
    return {
        metric: {name: None if np.isnan(value) else float(value) for name, value in vars(score).items()}
        for metric, score in scores.items()
    }
