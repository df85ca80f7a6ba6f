"""Limits of agreement between what is predicted and what is true (Bland & Altman 1999, Stat Methods Med Res 8:135)."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import CONFIDENCE, Array


@dataclass(frozen=True)
class Agreement:
    """Mean difference, and the limits that 95 % of differences lie within; each with its 95 % interval."""

    mean: Score
    lower: Score
    upper: Score


def limits_of_agreement(difference: Array, n_subjects: int) -> Agreement:
    """Mean ± 1.96 standard deviations of differences that are about normal, the same at all magnitudes.

    Intervals by their t formulas: the variance of the mean is s²/n, that of a limit s²·(1/n + 1.96²/(2·(n − 1))).

    Args:
        difference: (scans,), predicted minus true.
        n_subjects: n of the intervals, since two scans of a subject are not two observations.

    Returns:
        Limits are nan for fewer than two scans, intervals for fewer than two subjects.
    """
    mean = float(difference.mean())
    if len(difference) < 2:
        undefined = Score(np.nan, np.nan, np.nan)
        return Agreement(Score(mean, np.nan, np.nan), undefined, undefined)
    sd, z = float(difference.std(ddof=1)), float(norm.ppf((1 + CONFIDENCE) / 2))

    def score(value: float, variance: float) -> Score:
        margin = float(student.ppf((1 + CONFIDENCE) / 2, n_subjects - 1)) * sd * variance**0.5
        return Score(value, value - margin, value + margin)

    if n_subjects < 2:
        return Agreement(*(Score(mean + k * z * sd, np.nan, np.nan) for k in (0, -1, 1)))
    of_limit = 1 / n_subjects + z**2 / (2 * (n_subjects - 1))
    return Agreement(score(mean, 1 / n_subjects), score(mean - z * sd, of_limit), score(mean + z * sd, of_limit))
