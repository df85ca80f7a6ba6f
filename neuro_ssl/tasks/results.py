"""From a downstream run's outputs to its prediction table and its scores; every score comes from that table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import pandas as pd

from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import Target
from neuro_ssl.distributed import gather_objects
from neuro_ssl.evaluation.calibration import with_decisions
from neuro_ssl.evaluation.scores import score_predictions
from neuro_ssl.tasks.supervised import SupervisedTask

Outputs = Mapping[str, Any]  # for each split, what `Trainer.predict` returns for its one loader: a list of dicts
ABOUT_SCAN = ("scan_id", "subject_id", "session_id", "age_years", "sex", "site")


def evaluate(
    trainer: L.Trainer,
    task: SupervisedTask,
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
        The predictions (`prediction_table`; with the test split, of a classification also the decisions that thresholds
        from validation make), and the results (`downstream_results`), the same on all ranks.
    """
    outputs: Outputs = {"val": trainer.predict(task, datamodule.loader("val"), ckpt_path=checkpoint)}
    split: Literal["val", "test"] = "test" if open_test else "val"
    if open_test:
        outputs = {**outputs, "test": trainer.predict(task, datamodule.loader("test"), ckpt_path=checkpoint)}
    table = prediction_table(datamodule, outputs)
    if open_test:  # on the scans that thresholds are chosen on they do too well
        of_targets = ((target, table[table["task"] == target.name]) for target in datamodule.targets)
        table = pd.concat([with_decisions(rows) if target.classes else rows for target, rows in of_targets])
    results = downstream_results(task, datamodule, table, task_name, pretrained=pretrained, split=split)
    for logger in trainer.loggers if open_test else ():
        logger.log_metrics(as_metrics(results), trainer.global_step)
    return table, results


def prediction_table(datamodule: SupervisedDataModule, outputs: Outputs) -> pd.DataFrame:
    """One row a scan and target that it has a label of; gathered over ranks, each once.

    Columns: who it is, `split`, `task` (the target's name), `target` (its label) and `prediction`.

    Args:
        datamodule: whose store's manifest the scans are rows of.
        outputs: for each split the `predict_step` results of this rank.
    """
    manifest = datamodule.store.manifest
    rows = []
    for split, batches in outputs.items():
        for batch in gather_objects(batches):
            scans, labels, predictions = (batch[name].cpu() for name in ("scan", "target", "prediction"))
            for i, target in enumerate(datamodule.targets):
                columns = zip(scans.tolist(), labels[:, i].tolist(), predictions[:, i].tolist(), strict=True)
                rows += [(i, scan, split, target.name, label, prediction) for scan, label, prediction in columns]
    table = pd.DataFrame(rows, columns=["position", "scan", "split", "task", "target", "prediction"])
    table = table.dropna(subset="target").drop_duplicates(["position", "scan"])
    table = table.sort_values(["position", "scan"]).set_index("scan").drop(columns="position")
    about = manifest.loc[table.index, [name for name in ABOUT_SCAN if name in manifest]]
    return pd.concat([about.reset_index(drop=True), table.reset_index(drop=True)], axis=1)


def downstream_results(
    task: SupervisedTask,
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

    Returns:
        What was done, and its scores; those of several targets by name under `targets`.
    """
    trained = "finetune" if pretrained else "from_scratch"
    run: dict[str, Any] = {
        "task": task_name,
        "protocol": "linear_probe" if task.frozen else trained,
        "initialisation": "pretrained" if pretrained else "untrained",
    }
    means, _ = datamodule.target_statistics
    table = table[table["split"] == split]
    scored = {
        target.name: _target_results(target, table[table["task"] == target.name], mean)
        for target, mean in zip(datamodule.targets, means, strict=True)
    }
    return run | ({"targets": scored} if len(scored) > 1 else next(iter(scored.values())))


def _target_results(target: Target, scored: pd.DataFrame, constant: float) -> dict[str, Any]:
    """What `results.json` says of one target, by its predictions on one split and the training labels' mean."""
    (split,) = scored["split"].unique()
    baseline = scored.drop(columns=["decision", "decision_specific"], errors="ignore").assign(prediction=constant)
    return {
        "task": target.name,
        "kind": target.kind,
        "target": target.target,
        "unit": target.unit,
        "positive_class": target.classes[1] if target.classes else None,
        f"n_{split}_scans": len(scored),
        f"n_{split}_subjects": int(scored["subject_id"].nunique()),
        "scores": _as_dict(score_predictions(scored, target.kind)),
        "baseline": {
            "name": "share of the positive class" if target.classes else "mean of the training scans",
            "prediction": constant,
            "scores": _as_dict(score_predictions(baseline, target.kind)),
        },
        "reference": target.reference.model_dump() if target.reference else None,
    }


def as_metrics(results: dict[str, Any]) -> dict[str, float]:
    """Scores and their intervals as loggers take them: `test/mae`, `test/mae_low`; of several targets `test/sex/…`."""
    of_targets = {f"{name}/": scored for name, scored in results.get("targets", {}).items()} or {"": results}
    return {
        f"test/{of}{metric}" if part == "value" else f"test/{of}{metric}_{part}": value
        for of, scored in of_targets.items()
        for metric, score in scored["scores"].items()
        for part, value in score.items()
        if value is not None
    }


def _as_dict(scores: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Scores as JSON knows them: what is undefined is null."""
    return {
        metric: {name: None if np.isnan(value) else float(value) for name, value in vars(score).items()}
        for metric, score in scores.items()
    }
