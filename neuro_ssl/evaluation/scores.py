"""Scores of a table of predictions, and differences between two tables, with 95 % intervals.

The intervals come from a bootstrap over subjects: a subject is drawn with all its scans, since two scans of one
brain are not two observations. Bias-corrected and accelerated (BCa, Efron 1987, J Am Stat Assoc 82:171-185), by
`scipy.stats.bootstrap`. For classification, subjects who are ever positive and subjects who never are get resampled
separately, as in pROC (Robin et al. 2011): the class sizes of the test set count as given, and no resample can
lack a class.

A bootstrap can't see the uncertainty of a perfect separation, of a class that is always or never recognised, or of a
handful of subjects. AUROC and balanced accuracy then get closed-form intervals on the number of subjects
(`metrics.py`); any other score has none there (nan), nor has what is 0.5 by definition, for constant predictions.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import (
    CONFIDENCE,
    METRICS,
    THRESHOLD,
    Array,
    Kind,
    auroc_interval,
    balanced_accuracy_interval,
)

MIN_SUBJECTS = 5  # in each stratum: 4 have 35 distinct resamples, too few for a 95 % interval
_VALUES_AT_ONCE = 10_000_000  # weights held in memory together: 80 MB


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval; nan where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Subjects:
    """`subject`: index of each scan's subject; `strata`: subjects' indices, one array for each stratum."""

    subject: npt.NDArray[np.intp]
    strata: tuple[npt.NDArray[np.intp], ...]


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
    subjects = _subjects(table, kind)
    scores = {}
    for name, metric in METRICS[kind].items():

        def statistic(weight: Array, compute: Callable[..., Array] = metric.compute) -> Array:
            return compute(target, prediction, weight)

        scores[name] = _bootstrap(statistic, subjects, seed, n_resamples)
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

    return _bootstrap(statistic, _subjects(a, kind), seed, n_resamples)


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


def _subjects(table: pd.DataFrame, kind: Kind) -> _Subjects:
    subject = np.unique(table["subject_id"].to_numpy(str), return_inverse=True)[1]
    indices = np.arange(subject.max() + 1)
    if kind == "regression":
        return _Subjects(subject, (indices,))
    positive = np.bincount(subject, weights=table["target"]) > 0
    return _Subjects(subject, tuple(s for s in (indices[positive], indices[~positive]) if len(s)))


def _bootstrap(statistic: Callable[[Array], Array], subjects: _Subjects, seed: int, n_resamples: int) -> Score:
    n_subjects = int(subjects.subject.max()) + 1

    def resampled(*draws: npt.NDArray[np.intp], axis: int) -> Array:
        counts = sum(_counts(draw, n_subjects) for draw in draws)
        # Rounded, since equal scores must tie in the bias correction whatever the order of summation.
        return np.round(statistic(np.asarray(counts, float)[..., subjects.subject]), 12)

    # Undefined resamples (0/0) make the interval nan: that is the answer, not an accident to warn of.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        value = float(statistic(np.ones(len(subjects.subject))))
        if min(map(len, subjects.strata)) < MIN_SUBJECTS:
            return Score(value, np.nan, np.nan)
        low, high = bootstrap(
            subjects.strata,
            resampled,
            n_resamples=n_resamples,
            batch=max(1, _VALUES_AT_ONCE // len(subjects.subject)),
            vectorized=True,
            axis=-1,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    # Width 0: no resample differed, which says nothing about other subjects.
    return Score(value, float(low), float(high)) if high > low else Score(value, np.nan, np.nan)


def _counts(draws: npt.NDArray[np.intp], n_subjects: int) -> npt.NDArray[np.intp]:
    """How often each subject was drawn: draws (…, drawn) to counts (…, n_subjects)."""
    rows = draws.astype(np.intp).reshape(-1, draws.shape[-1])
    cells = rows + n_subjects * np.arange(len(rows))[:, None]
    counts = np.bincount(cells.ravel(), minlength=len(rows) * n_subjects)
    return counts.reshape(*draws.shape[:-1], n_subjects)


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
