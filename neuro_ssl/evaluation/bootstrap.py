"""Intervals by a bootstrap over subjects.

A subject is drawn with all its scans, since two scans of one brain are not two observations. Bias-corrected and
accelerated (BCa, Efron 1987, J Am Stat Assoc 82:171-185). For classification, subjects who are ever positive and
subjects who never are get resampled separately, as in pROC (Robin et al. 2011): the class sizes of the test set count
as given, and no resample can lack a class. (So the interval of an average precision, which hangs on the share of
positive scans, holds for this share.)

The intervals are those of `scipy.stats.bootstrap`, with which the tests compare. Not called here, since it draws anew
for every statistic, and for the acceleration leaves out every subject in turn, which for thousands is most of the time:
above `MAX_GROUPS` subjects, groups of them are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from neuro_ssl.evaluation.metrics import CONFIDENCE, Array, Kind

MIN_SUBJECTS = 5  # in each stratum: 4 have 35 distinct resamples, too few for a 95 % interval
MAX_GROUPS = 500  # of subjects left out in turn; the acceleration then errs by about 0.001
_VALUES_AT_ONCE = 1_000_000  # weights held in memory together: 8 MB
Statistic = Callable[[Array], Array]  # from weights (…, scans) to (…)


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


def bootstrap_interval(statistic: Statistic, subjects: Subjects, *, seed: int = 0, n_resamples: int = 2000) -> Score:
    """One statistic and its 95 % interval, see `bootstrap_intervals`."""
    return bootstrap_intervals({"": statistic}, subjects, seed=seed, n_resamples=n_resamples)[""]


def bootstrap_intervals(
    statistics: Mapping[str, Statistic], subjects: Subjects, *, seed: int = 0, n_resamples: int = 2000
) -> dict[str, Score]:
    """Statistics of the same scans and their 95 % BCa intervals, from the same resamples.

    Args:
        statistics: each from the scans' weights (…, scans), of which a resample has whole numbers, to (…).
        subjects: whose scans they are.
        seed: the same seed gives the same intervals.
        n_resamples: of the bootstrap.

    Returns:
        Scores by the names of the statistics. An interval is nan if a stratum has fewer than `MIN_SUBJECTS`, if no
        resample differs from the others, or if the statistic is undefined in a resample.
    """
    n_subjects = int(subjects.subject.max()) + 1
    at_once = max(1, _VALUES_AT_ONCE // len(subjects.subject))

    def evaluated(counts: Iterable[Array]) -> Array:
        """Rounded, since equal scores must tie in the bias correction whatever the order of summation."""
        weights = (count[:, subjects.subject] for count in counts)
        return np.concatenate([[np.round(s(weight), 12) for s in statistics.values()] for weight in weights], axis=1)

    with np.errstate(all="ignore"):  # an undefined resample (0/0) makes the interval nan: an answer, not an accident
        values = evaluated([np.ones((1, n_subjects))])[:, 0]
        if min(map(len, subjects.strata)) < MIN_SUBJECTS:
            return {name: Score(float(v), np.nan, np.nan) for name, v in zip(statistics, values, strict=True)}
        rng = np.random.default_rng(seed)
        sizes = (min(at_once, n_resamples - start) for start in range(0, n_resamples, at_once))
        draws = evaluated(_resampled(subjects.strata, n_subjects, size, rng) for size in sizes)
        left_out = [(evaluated(_left_out(s, n_subjects, at_once)), len(s)) for s in subjects.strata]
        accelerations = _accelerations(left_out)
        return {
            name: Score(float(value), *_bca(value, draw, acceleration))
            for name, value, draw, acceleration in zip(statistics, values, draws, accelerations, strict=True)
        }


def _resampled(strata: Sequence[npt.NDArray[np.intp]], n_subjects: int, size: int, rng: np.random.Generator) -> Array:
    """How often each subject is drawn: (size, n_subjects). The draws are those of `scipy.stats.bootstrap`."""
    counts = np.zeros((size, n_subjects))
    for stratum in strata:
        drawn = rng.integers(0, len(stratum), (size, len(stratum)))
        cells = drawn + len(stratum) * np.arange(size)[:, None]
        counts[:, stratum] = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape)
    return counts


def _left_out(stratum: npt.NDArray[np.intp], n_subjects: int, at_once: int) -> Iterator[Array]:
    """Each subject of a stratum once, but for one group of the stratum: (groups, n_subjects), in batches."""
    group = np.full(n_subjects, -1)
    group[stratum] = np.arange(len(stratum)) % MAX_GROUPS
    groups = np.arange(min(len(stratum), MAX_GROUPS))
    for start in range(0, len(groups), at_once):
        yield (group != groups[start : start + at_once, None]).astype(float)


def _accelerations(left_out: Sequence[tuple[Array, int]]) -> Array:
    """From each stratum's (statistics without each group (statistics, groups), size); Efron & Tibshirani 1993, 14.15.

    What leaving a group out changes is the sum of its subjects' influences. Of sums of m both the variance and the
    third central moment are m times a subject's, so that groups estimate the same acceleration as single subjects.
    """
    cubes = squares = np.zeros(len(left_out[0][0]))
    for values, size in left_out:
        n_groups = values.shape[1]
        members = size // n_groups + (np.arange(n_groups) < size % n_groups)
        influence = (1 - members / size) * (values.mean(1, keepdims=True) - values)
        cubes = cubes + (influence**3).sum(1)
        squares = squares + (influence**2).sum(1)
    return cubes / (6 * squares**1.5)


def _bca(value: float, draws: Array, acceleration: float) -> tuple[float, float]:
    """The BCa interval (Efron & Tibshirani 1993, 14.9 to 14.14) from resampled values (resamples,)."""
    below = ((draws < value).mean() + (draws <= value).mean()) / 2
    z0 = norm.ppf(below)
    z = z0 + norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    levels = norm.cdf(z0 + z / (1 - acceleration * z))
    if np.isnan(levels).any():
        return np.nan, np.nan
    low, high = np.quantile(draws, levels)
    # Width 0: no resample differed, which says nothing about other subjects.
    return (float(low), float(high)) if high > low else (np.nan, np.nan)
