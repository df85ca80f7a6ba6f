"""Scores of a table of predictions, and differences between two tables, with 95 % intervals.

The intervals come from a bootstrap over subjects (`bootstrap.py`). A table may hold several replicates of the same
scans (seeds, draws of labels, repetitions of a cross-validation): a score is then the mean of the replicates' scores,
and a resample takes the same subjects in all of them. So the interval is about other subjects, with these models and
their thresholds; `over_replicates` is about other replicates.

A bootstrap can't see the uncertainty of a perfect separation, of a class that is always or never recognised, or of a
handful of subjects. AUROC, balanced accuracy, sensitivity and specificity then get closed-form intervals on the number
of subjects (`closed_form.py`); any other score has none there (nan), nor has what is 0.5 by definition, for constant
predictions.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import sem
from scipy.stats import t as student

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score, Statistic, bootstrap_interval, bootstrap_intervals, subjects_of
from neuro_ssl.evaluation.closed_form import auroc_interval, balanced_accuracy_interval, proportion_interval
from neuro_ssl.evaluation.metrics import (
    CONFIDENCE,
    METRICS,
    Array,
    Kind,
    Predictions,
)

# Columns that `metrics.Predictions` explains; the decisions come from `calibration.with_decisions`.
OPTIONAL = ("replicate", "fold", "decision", "decision_specific")


def score_predictions(table: pd.DataFrame, kind: Kind, *, seed: int = 0, n_resamples: int = 2000) -> dict[str, Score]:
    """Every score of `METRICS[kind]`, each scan counting once.

    Args:
        table: see `predictions_of`.
        kind: "classification" or "regression".
        seed: of the bootstrap; the same table gives the same intervals.
        n_resamples: of the bootstrap.

    Returns:
        Scores by metric name; nan where undefined, as is what needs `decision_specific` if the table lacks it.

    Raises:
        InputError: see `predictions_of`.
    """
    scans, replicates = predictions_of(table, kind)
    subjects = subjects_of(scans, kind)
    statistics = {name: mean_over(replicates, metric.compute) for name, metric in METRICS[kind].items()}
    scores = bootstrap_intervals(statistics, subjects, seed=seed, n_resamples=n_resamples)
    scores |= {name: Score(scores[name].value, np.nan, np.nan) for name in scores if not METRICS[kind][name].interval}
    if kind == "classification":
        scores |= _closed_form(scores, replicates, subjects.subject)
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
        table_a: see `predictions_of`, with `scan_id`.
        table_b: predictions of another model for the same scans; the replicates may be others, and more or fewer.
        kind: "classification" or "regression".
        metric: a key of `METRICS[kind]`.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        The difference; its interval is nan if the models never differ in any resample.

    Raises:
        InputError: see `predictions_of` and `paired_predictions`.
    """
    scans, a, b = paired_predictions(table_a, table_b, kind)
    score_a, score_b = (mean_over(replicates, METRICS[kind][metric].compute) for replicates in (a, b))
    delta = bootstrap_interval(
        lambda weight: score_a(weight) - score_b(weight), subjects_of(scans, kind), seed=seed, n_resamples=n_resamples
    )
    return delta if METRICS[kind][metric].interval else Score(delta.value, np.nan, np.nan)


def over_replicates(values: Sequence[float]) -> Score:
    """Mean and 95 % t interval over replicates, such as one score of several seeds.

    The interval is nan for fewer than three values, or if they don't differ.
    """
    mean = float(np.mean(values))
    if len(values) < 3 or np.ptp(values) == 0:
        return Score(mean, np.nan, np.nan)
    low, high = student.interval(CONFIDENCE, len(values) - 1, mean, sem(values))
    return Score(mean, float(low), float(high))


def mean_over(replicates: Sequence[Predictions], compute: Callable[[Predictions, Array], Array]) -> Statistic:
    """A score's mean over replicates, as the statistic that the bootstrap takes."""

    def statistic(weight: Array) -> Array:
        return np.mean([compute(predictions, weight) for predictions in replicates], axis=0)  # type: ignore[no-any-return]

    return statistic


def predictions_of(table: pd.DataFrame, kind: Kind, *more_columns: str) -> tuple[pd.DataFrame, list[Predictions]]:
    """The scans of a table of predictions, and what each replicate predicts of them.

    Args:
        table: one row a scan and replicate: `subject_id`, `target`, `prediction`, and maybe `replicate` (then with
            `scan_id`), `fold`, `decision`, `decision_specific` (see `metrics.Predictions`; a column without any value
            is none). Classification is binary: target 0 or 1, prediction the probability of 1. The order of the rows
            doesn't matter.
        kind: "classification" or "regression".
        more_columns: that the table must have too.

    Returns:
        `subject_id`, `target` and, where there, `scan_id`, one row a scan, sorted; for each replicate the predictions
        of these scans in this order.

    Raises:
        InputError: a column or value is missing, a target or probability is out of range, a class is absent, or
            replicates differ in scans or targets.
    """
    table = table.drop(columns=[name for name in OPTIONAL if name in table and table[name].isna().all()])
    repeated = "replicate" in table
    _check(table, kind, *more_columns, *(["scan_id"] if repeated else []))
    about = ["subject_id", "scan_id", "target"] if "scan_id" in table else ["subject_id", "target"]
    table = table.astype({"target": float, "prediction": float}).sort_values([*about, "prediction"], ignore_index=True)
    names, parts = zip(*table.groupby("replicate"), strict=True) if repeated else ((None,), (table,))
    scans = [part[about].reset_index(drop=True) for part in parts]
    for name, others in zip(names, scans, strict=True):
        if not others.equals(scans[0]):
            raise InputError(
                f"replicate {name}: its scans or their targets aren't those of replicate {names[0]}; "
                "every replicate must predict the same scans"
            )
    return scans[0], [_predictions(part) for part in parts]


def paired_predictions(
    table_a: pd.DataFrame, table_b: pd.DataFrame, kind: Kind
) -> tuple[pd.DataFrame, list[Predictions], list[Predictions]]:
    """The scans that two tables share, and the replicates of each, see `predictions_of`.

    Raises:
        InputError: as `predictions_of`, or the two tables differ in scans, subjects or targets.
    """
    (scans, a), (scans_b, b) = (predictions_of(table, kind, "scan_id") for table in (table_a, table_b))
    for column in scans:
        if not scans[column].equals(scans_b[column]):
            raise InputError(f"paired comparison: the two tables of predictions differ in {column}")
    return scans, a, b


def _predictions(table: pd.DataFrame) -> Predictions:
    def decided(name: str) -> Array | None:
        if name not in table:
            return None
        called = table[name].astype("boolean").astype("Float64")
        return np.asarray(called.to_numpy(float, na_value=np.nan), np.float64)

    fold = pd.factorize(table["fold"])[0] if "fold" in table else None
    target, prediction = (table[name].to_numpy() for name in ("target", "prediction"))
    return Predictions(target, prediction, fold, decided("decision"), decided("decision_specific"))


def _check(table: pd.DataFrame, kind: Kind, *more_columns: str) -> None:
    columns = ["subject_id", "target", "prediction", *more_columns]
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"predictions lack the columns {', '.join(missing)}")
    if table.empty:
        raise InputError("predictions are empty: there is no scan to score")
    for name in OPTIONAL[:3]:
        if name in table and (n := int(table[name].isna().sum())):
            raise InputError(f"predictions: {n} of {len(table)} rows lack {name}; give it for all rows or for none")
    target, prediction = table["target"].astype(float), table["prediction"].astype(float)
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


def _closed_form(
    scores: dict[str, Score], replicates: Sequence[Predictions], subject: npt.NDArray[np.intp]
) -> dict[str, Score]:
    """The scores whose interval the bootstrap can't give, but a closed form can."""
    if all(np.ptp(p.prediction[part]) == 0 for p in replicates for part in p.parts):
        return {}  # 0.5 by definition, whoever the subjects
    positive = replicates[0].target == 1
    # A subject with scans of both classes counts in both.
    n_positive, n_negative = (len(np.unique(subject[mask])) for mask in (positive, ~positive))
    sensitivity = float(np.mean([p.called[positive].mean() for p in replicates]))
    specificity = float(np.mean([1 - p.called[~positive].mean() for p in replicates]))
    replaced = {}
    value = scores["auroc"].value  # nan where no fold of a cross-validation has both classes
    if np.isnan(scores["auroc"].low) and not np.isnan(value):
        replaced["auroc"] = Score(value, *auroc_interval(value, n_positive, n_negative))
    if np.isnan(scores["balanced_accuracy"].low) or {sensitivity, specificity} & {0.0, 1.0}:
        interval = balanced_accuracy_interval(sensitivity, specificity, n_positive, n_negative)
        replaced["balanced_accuracy"] = Score(scores["balanced_accuracy"].value, *interval)
    for name, n in (("sensitivity_at_specificity", n_positive), ("specificity_achieved", n_negative)):
        value = scores[name].value
        if np.isnan(scores[name].low) and not np.isnan(value):
            replaced[name] = Score(value, *proportion_interval(value, n))
    return replaced
