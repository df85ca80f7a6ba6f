"""The scores of binary classification and of regression, weighted, for many weightings at a time.

A bootstrap resample is a set of integer weights, so one vectorised function gives both a score and its bootstrap
distribution. Definitions are scikit-learn's (`roc_auc_score`, `average_precision_score`, … with `sample_weight`);
what these functions add is the leading axis of weightings. A score that is undefined (0/0) is nan.

Shapes: `target` and `prediction` (scans,), `weight` (…, scans), result (…).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

Kind = Literal["classification", "regression"]
Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
THRESHOLD = 0.5  # a probability of at least this counts as the positive class


def _mean(values: Array, weight: Array) -> Array:
    return (weight * values).sum(-1) / weight.sum(-1)  # type: ignore[no-any-return]


def mae(target: Array, prediction: Array, weight: Array) -> Array:
    """Mean absolute error."""
    return _mean(np.abs(prediction - target), weight)


def rmse(target: Array, prediction: Array, weight: Array) -> Array:
    """Root mean squared error."""
    return np.sqrt(_mean((prediction - target) ** 2, weight))


def r2(target: Array, prediction: Array, weight: Array) -> Array:
    """Share of the target's variance explained; negative if worse than predicting the mean of these targets."""
    variance = _mean((target - _mean(target, weight)[..., None]) ** 2, weight)
    return 1 - _mean((prediction - target) ** 2, weight) / np.where(variance > 0, variance, np.nan)


def pearson(target: Array, prediction: Array, weight: Array) -> Array:
    """Correlation of prediction and target; nan if either is constant."""
    t = target - _mean(target, weight)[..., None]
    p = prediction - _mean(prediction, weight)[..., None]
    scale = np.sqrt(_mean(t * t, weight) * _mean(p * p, weight))
    # A constant minus its own mean leaves rounding errors, which would correlate at random.
    tiny = 1e-12 * np.abs(target).max() * np.abs(prediction).max()
    return _mean(t * p, weight) / np.where(scale > tiny, scale, np.nan)


def brier(target: Array, prediction: Array, weight: Array) -> Array:
    """Mean squared error of the probabilities."""
    return _mean((prediction - target) ** 2, weight)


def balanced_accuracy(target: Array, prediction: Array, weight: Array) -> Array:
    """Mean of sensitivity and specificity at a threshold of 0.5."""
    correct = ((prediction >= THRESHOLD) == (target == 1)).astype(float)
    return (_mean(correct, weight * (target == 1)) + _mean(correct, weight * (target == 0))) / 2


def auroc(target: Array, prediction: Array, weight: Array) -> Array:
    """Probability that a positive scan gets a higher prediction than a negative one, ties counting half."""
    positive, negative = _class_weights(target, prediction, weight)
    below = np.cumsum(negative, -1) - negative / 2
    return (positive * below).sum(-1) / (positive.sum(-1) * negative.sum(-1))  # type: ignore[no-any-return]


def average_precision(target: Array, prediction: Array, weight: Array) -> Array:
    """Precision averaged over the recall steps, from the highest prediction down, without interpolation."""
    positive, negative = (w[..., ::-1] for w in _class_weights(target, prediction, weight))
    true = np.cumsum(positive, -1)
    selected = true + np.cumsum(negative, -1)
    precision = np.divide(true, selected, out=np.zeros_like(true), where=selected > 0)
    return _mean(precision, positive)


def _class_weights(target: Array, prediction: Array, weight: Array) -> tuple[Array, Array]:
    """Weight of the positive and of the negative scans at each distinct prediction, ascending: (…, distinct)."""
    order = np.argsort(prediction, kind="stable")
    start = np.flatnonzero(np.diff(prediction[order], prepend=-np.inf))
    return tuple(  # type: ignore[return-value]
        np.add.reduceat((weight * (target == label))[..., order], start, -1) for label in (1, 0)
    )


def auroc_interval(value: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """Interval of an AUROC by its closed form: Newcombe 2006 (Stat Med 25:559-573), method 5.

    The score-type inversion of Hanley & McNeil's variance with the two class sizes replaced by their mean in its
    second and third term. Unlike the bootstrap's, it doesn't collapse to a point at a perfect separation.
    """
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    n = (n_positive + n_negative) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + n * (1 - theta) / (2 - theta) + n * theta / (1 + theta)
        return (value - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (n_positive * n_negative)

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
        wilson = binomtest(round(rate * n), n).proportion_ci(CONFIDENCE, method="wilson")
        below += max(rate - wilson.low, 0.0) ** 2
        above += max(wilson.high - rate, 0.0) ** 2
    value = (sensitivity + specificity) / 2
    return float(value - below**0.5 / 2), float(value + above**0.5 / 2)


@dataclass(frozen=True)
class Metric:
    """How a score is computed and shown.

    Attributes:
        label: name on figures and in tables.
        higher_is_better: direction.
        in_target_unit: the score has the unit of the target, such as years.
        compute: from target, prediction and weight to the score.
    """

    label: str
    higher_is_better: bool
    in_target_unit: bool
    compute: Callable[[Array, Array, Array], Array]


# The first of each kind is the one that models are compared by.
METRICS: dict[Kind, dict[str, Metric]] = {
    "classification": {
        "auroc": Metric("AUROC", True, False, auroc),
        "average_precision": Metric("Average precision", True, False, average_precision),
        "balanced_accuracy": Metric("Balanced accuracy", True, False, balanced_accuracy),
        "brier": Metric("Brier score", False, False, brier),
    },
    "regression": {
        "mae": Metric("MAE", False, True, mae),
        "rmse": Metric("RMSE", False, True, rmse),
        "r2": Metric("R²", True, False, r2),
        "pearson": Metric("Pearson r", True, False, pearson),
    },
}
PRIMARY: dict[Kind, str] = {kind: next(iter(metrics)) for kind, metrics in METRICS.items()}
