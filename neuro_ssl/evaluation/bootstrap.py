"""Intervals by a bootstrap over subjects.

A subject is drawn with all its scans, since two scans of one brain are not two observations. Bias-corrected and
accelerated (BCa, Efron 1987, J Am Stat Assoc 82:171-185), by `scipy.stats.bootstrap`. For classification, subjects who
are ever positive and subjects who never are get resampled separately, as in pROC (Robin et al. 2011): the class sizes
of the test set count as given, and no resample can lack a class.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap

from neuro_ssl.evaluation.metrics import CONFIDENCE, Array, Kind

MIN_SUBJECTS = 5  # in each stratum: 4 have 35 distinct resamples, too few for a 95 % interval
_VALUES_AT_ONCE = 10_000_000  # weights held in memory together: 80 MB


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval; nan where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Subjects:
    """`subject`: index of each scan's subject; `strata`: subjects' indices, one array for each stratum."""

    subject: npt.NDArray[np.intp]
    strata: tuple[npt.NDArray[np.intp], ...]


def subjects_of(table: pd.DataFrame, kind: Kind) -> Subjects:
    """The subjects of a table of predictions (`subject_id`, and for classification `target` 0 or 1)."""
    subject = np.unique(table["subject_id"].to_numpy(str), return_inverse=True)[1]
    indices = np.arange(subject.max() + 1)
    if kind == "regression":
        return Subjects(subject, (indices,))
    positive = np.bincount(subject, weights=table["target"]) > 0
    return Subjects(subject, tuple(s for s in (indices[positive], indices[~positive]) if len(s)))


def bootstrap_interval(
    statistic: Callable[[Array], Array], subjects: Subjects, *, seed: int = 0, n_resamples: int = 2000
) -> Score:
    """A statistic and its 95 % BCa interval.

    Args:
        statistic: from the scans' weights (…, scans), of which a resample has whole numbers, to (…).
        subjects: whose scans they are.
        seed: the same seed gives the same interval.
        n_resamples: of the bootstrap.

    Returns:
        The interval is nan if a stratum has fewer than `MIN_SUBJECTS`, or no resample differs from the others.
    """
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
