"""Scores of a table of predictions, and differences between two tables, with 95 % intervals.

The intervals come from a bootstrap over subjects (`bootstrap.py`).

A bootstrap can't see the uncertainty of a perfect separation, of a class that is always or never recognised, or of a
handful of subjects. AUROC and balanced accuracy then get closed-form intervals on the number of subjects
(`metrics.py`); any other score has none there (nan), nor has what is 0.5 by definition, for constant predictions.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score, bootstrap_interval, subjects_of
from neuro_ssl.evaluation.metrics import (
    METRICS,
    THRESHOLD,
    Array,
    Kind,
    auroc_interval,
    balanced_accuracy_interval,
)


def score_predictions(table: pd.DataFrame, kind: Kind, *, seed: int = 0, n_resamples: int = 2000) -> dict[str, Score]:
    """Every score of `METRICS[kind]`, each scan counting once.

    Args:
        table: one row a scan: `subject_id`, `target`, `prediction`. Classification is binary: target 0 or 1,
            prediction the probability of 1. The order of the rows doesn't matter.
        kind: "classification" or "regression".
        seed: of the bootstrap; the same table gives the same intervals.
        n_resamples: of the bootstrap.

    Returns:
        Scores by metric name.

    Raises:
        InputError: a column or value is missing, a target or probability is out of range, or a class is absent.
    """
    # Resampling is by position: the rows' order must not decide the interval.
    table = _checked(table, kind).sort_values(["subject_id", "target", "prediction"])
    target, prediction = table["target"].to_numpy(float), table["prediction"].to_numpy(float)
    subjects = subjects_of(table, kind)
    scores = {}
    for name, metric in METRICS[kind].items():

        def statistic(weight: Array, compute: Callable[..., Array] = metric.compute) -> Array:
            return compute(target, prediction, weight)

        scores[name] = bootstrap_interval(statistic, subjects, seed=seed, n_resamples=n_resamples)
    if kind == "classification":
        scores |= _closed_form(scores, target, prediction, subjects.subject)
    return scores


def difference(
    table_a: pd.DataFrame,
    table_b: pd.DataFrame,
    kind: Kind,
    metric: str,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
) -> Score:
    """Score of `table_a` minus score of `table_b` on the same scans, resampled together (paired by subject).

    Args:
        table_a: one row a scan: `scan_id`, `subject_id`, `target`, `prediction`.
        table_b: predictions of another model for the same scans.
        kind: "classification" or "regression".
        metric: a key of `METRICS[kind]`.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        The difference; its interval is nan if the models never differ in any resample.

    Raises:
        InputError: as `score_predictions`, or the two tables differ in scans, subjects or targets.
    """
    keys = ["subject_id", "scan_id"]
    a, b = (_checked(table, kind, "scan_id").sort_values(keys, ignore_index=True) for table in (table_a, table_b))
    for column in (*keys, "target"):
        if not a[column].equals(b[column]):
            raise InputError(f"paired comparison: the two tables of predictions differ in {column}")
    target = a["target"].to_numpy(float)
    prediction_a, prediction_b = a["prediction"].to_numpy(float), b["prediction"].to_numpy(float)
    compute = METRICS[kind][metric].compute

    def statistic(weight: Array) -> Array:
        return compute(target, prediction_a, weight) - compute(target, prediction_b, weight)

    return bootstrap_interval(statistic, subjects_of(a, kind), seed=seed, n_resamples=n_resamples)


def _checked(table: pd.DataFrame, kind: Kind, *more_columns: str) -> pd.DataFrame:
    columns = ["subject_id", "target", "prediction", *more_columns]
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"predictions lack the columns {', '.join(missing)}")
    if table.empty:
        raise InputError("predictions are empty: there is no scan to score")
    table = table[columns].astype({"target": float, "prediction": float})
    target, prediction = table["target"], table["prediction"]
    if kind == "classification":
        good = target.isin([0, 1]) & prediction.between(0, 1)
    else:
        good = target.between(-np.inf, np.inf, "neither") & prediction.between(-np.inf, np.inf, "neither")
    if not good.all():
        row = table[~good].iloc[0]
        expected = "target 0 or 1 and a probability" if kind == "classification" else "finite numbers"
        raise InputError(
            f"subject {row.subject_id}: target {row.target:g}, prediction {row.prediction:g}; expected {expected}"
        )
    if kind == "classification" and target.nunique() < 2:
        raise InputError(
            f"every target is {target.iloc[0]:g}: classification scores need scans of both classes; "
            "use a larger split, or stratify it by the target"
        )
    return table


def _closed_form(
    scores: dict[str, Score], target: Array, prediction: Array, subject: npt.NDArray[np.intp]
) -> dict[str, Score]:
    """The scores whose interval the bootstrap can't give, but a closed form can."""
    if np.ptp(prediction) == 0:
        return {}  # 0.5 by definition, whoever the subjects
    positive, called = target == 1, prediction >= THRESHOLD
    # A subject with scans of both classes counts in both.
    n_positive, n_negative = (len(np.unique(subject[mask])) for mask in (positive, ~positive))
    sensitivity, specificity = float(called[positive].mean()), float((~called[~positive]).mean())
    replaced = {}
    if np.isnan(scores["auroc"].low):
        value = scores["auroc"].value
        replaced["auroc"] = Score(value, *auroc_interval(value, n_positive, n_negative))
    if np.isnan(scores["balanced_accuracy"].low) or {sensitivity, specificity} & {0.0, 1.0}:
        interval = balanced_accuracy_interval(sensitivity, specificity, n_positive, n_negative)
        replaced["balanced_accuracy"] = Score(scores["balanced_accuracy"].value, *interval)
    return replaced
