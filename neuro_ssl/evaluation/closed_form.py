"""Intervals by formula, for what a bootstrap can't tell: perfect scores, and a handful of subjects."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from neuro_ssl.evaluation.metrics import CONFIDENCE


def auroc_interval(
    value: float, n_positive: int | Sequence[int], n_negative: int | Sequence[int]
) -> tuple[float, float]:
    """Interval of an AUROC by its closed form: Newcombe 2006 (Stat Med 25:559-573), method 5.

    The score-type inversion of Hanley & McNeil's variance with the two class sizes replaced by their mean in its
    second and third term. Unlike the bootstrap's, it doesn't collapse to a point at a perfect separation.

    Where only pairs within a fold count, class sizes are given for each: the variance is that of the mean of the folds'
    AUROCs, by their pairs.
    """
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    positive, negative = np.atleast_1d(n_positive), np.atleast_1d(n_negative)
    n_pairs = float((positive * negative).sum())
    n = float((positive * negative * ((positive + negative) / 2 - 1)).sum()) / n_pairs

    def excess(theta: float) -> float:
        spread = 1 + n * (1 - theta) / (2 - theta) + n * theta / (1 + theta)
        return (value - theta) ** 2 - z**2 * theta * (1 - theta) * spread / n_pairs

    # excess is ≥ 0 at 0 and 1 and ≤ 0 at the value; at a perfect value, one end is the value itself.
    low = 0.0 if value == 0 else brentq(excess, 0, min(value, 1 - 1e-9))
    high = 1.0 if value == 1 else brentq(excess, max(value, 1e-9), 1)
    return float(low), float(high)


def balanced_accuracy_interval(
    sensitivity: float, specificity: float, n_positive: int, n_negative: int
) -> tuple[float, float]:
    """Interval of a balanced accuracy: Wilson's for each class, combined by square-and-add.

    Newcombe 1998 (Stat Med 17:873-890), method 10, for the mean instead of the difference of two proportions.
    """
    below = above = 0.0
    for rate, n in ((sensitivity, n_positive), (specificity, n_negative)):
        low, high = proportion_interval(rate, n)
        below += max(rate - low, 0.0) ** 2
        above += max(high - rate, 0.0) ** 2
    value = (sensitivity + specificity) / 2
    return float(value - below**0.5 / 2), float(value + above**0.5 / 2)


def proportion_interval(rate: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a proportion of n subjects; of several scans each, the nearest whole number counts."""
    interval = binomtest(round(rate * n), n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)
