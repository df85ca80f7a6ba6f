"""The scores of binary classification and of regression, weighted, for many weightings at a time.

A bootstrap resample is a set of integer weights, so one vectorised function gives both a score and its bootstrap
distribution. Definitions are scikit-learn's (`roc_auc_score`, `average_precision_score`, … with `sample_weight`) and
SciPy's (`spearmanr` of the rows repeated as often as they weigh); what these functions add is the leading axis of
weightings. A score that is undefined (0/0) is nan.

Shapes: `Predictions` hold arrays (scans,), `weight` is (…, scans), the result (…).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["classification", "regression"]
Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
THRESHOLD = 0.5  # without a threshold from validation, a probability of at least this counts as the positive class
SPECIFICITY = 0.9  # that the second threshold has on validation
ECE_EDGES = np.arange(11) / 10


@dataclass(frozen=True)
class Predictions:
    """What scores are computed from; all arrays (scans,).

    Attributes:
        target: the truth; of a classification 0 or 1.
        prediction: of it; of a classification the probability of 1.
        fold: of a cross-validation, in which the scan was tested; scans are ranked against those of their fold alone.
        decision: 1 where the scan is called positive, by the threshold chosen on validation; without it by `THRESHOLD`.
        specific: the same by the threshold of `SPECIFICITY` on validation; nan where that is unknown.
    """

    target: Array
    prediction: Array
    fold: npt.NDArray[np.intp] | None = None
    decision: Array | None = None
    specific: Array | None = None

    @property
    def called(self) -> Array:
        """1 where the scan is called positive."""
        return (self.prediction >= THRESHOLD).astype(float) if self.decision is None else self.decision

    @property
    def parts(self) -> list[slice | npt.NDArray[np.intp]]:
        """The scans of each fold, or all."""
        return [slice(None)] if self.fold is None else [np.flatnonzero(self.fold == k) for k in np.unique(self.fold)]


def weighted_mean(values: Array, weight: Array) -> Array:
    """Mean of values (scans,) or (…, scans)."""
    return np.einsum("...s,...s->...", weight, values) / weight.sum(-1)  # type: ignore[no-any-return]


def mae(p: Predictions, weight: Array) -> Array:
    """Mean absolute error."""
    return weighted_mean(np.abs(p.prediction - p.target), weight)


def rmse(p: Predictions, weight: Array) -> Array:
    """Root mean squared error."""
    return np.sqrt(weighted_mean((p.prediction - p.target) ** 2, weight))


def r2(p: Predictions, weight: Array) -> Array:
    """Share of the target's variance explained; negative if worse than predicting the mean of these targets."""
    variance = weighted_mean((p.target - weighted_mean(p.target, weight)[..., None]) ** 2, weight)
    return 1 - weighted_mean((p.prediction - p.target) ** 2, weight) / np.where(variance > 0, variance, np.nan)


def pearson(p: Predictions, weight: Array) -> Array:
    """Correlation of prediction and target; nan if either is constant."""
    return _correlation(p.target, p.prediction, weight)


def spearman(p: Predictions, weight: Array) -> Array:
    """Correlation of the ranks of prediction and target, ties sharing their mean rank; nan if either is constant."""
    return _correlation(_ranks(p.target, weight), _ranks(p.prediction, weight), weight)


def _correlation(a: Array, b: Array, weight: Array) -> Array:
    """Pearson correlation of values (…, scans)."""
    # A constant minus its own mean leaves rounding errors, which would correlate at random.
    tiny = 1e-12 * np.abs(a).max() * np.abs(b).max()
    a = a - weighted_mean(a, weight)[..., None]
    b = b - weighted_mean(b, weight)[..., None]
    scale = np.sqrt(weighted_mean(a * a, weight) * weighted_mean(b * b, weight))
    return weighted_mean(a * b, weight) / np.where(scale > tiny, scale, np.nan)


def _ranks(values: Array, weight: Array) -> Array:
    """Mean rank, less a half, of each scan among the scans repeated as often as they weigh: (…, scans)."""
    (total,) = _at_each_value(values, weight)
    middle = np.cumsum(total, -1) - total / 2
    return middle[..., np.unique(values, return_inverse=True)[1]]


def brier(p: Predictions, weight: Array) -> Array:
    """Mean squared error of the probabilities."""
    return weighted_mean((p.prediction - p.target) ** 2, weight)


def ece(p: Predictions, weight: Array) -> Array:
    """Expected calibration error: how far probabilities are from frequencies, over ten bins of equal width.

    Naeini et al. 2015 (AAAI), for the probability of the positive class as torchmetrics' `BinaryCalibrationError`,
    save that a probability of exactly 1 belongs to the last bin. Noise alone makes it positive, the more the fewer the
    scans (Roelofs et al. 2022, AISTATS), and in a resample more than in the scans: so it has no interval.
    """
    member = (ece_bins(p.prediction)[:, None] == np.arange(len(ECE_EDGES) - 1)).astype(float)
    excess = weight @ (member * (p.prediction - p.target)[:, None])  # (…, bins)
    return np.abs(excess).sum(-1) / weight.sum(-1)  # type: ignore[no-any-return]


def ece_bins(prediction: Array) -> npt.NDArray[np.intp]:
    """The bin of `ECE_EDGES` that each probability belongs to, edges to the upper one."""
    return np.searchsorted(ECE_EDGES[1:-1], prediction, side="right")


def balanced_accuracy(p: Predictions, weight: Array) -> Array:
    """Mean of sensitivity and specificity, by the threshold chosen on validation (`Predictions.decision`)."""
    positive, called = p.target == 1, p.called
    return (weighted_mean(called, weight * positive) + weighted_mean(1 - called, weight * ~positive)) / 2


def sensitivity_at_specificity(p: Predictions, weight: Array) -> Array:
    """Share of the positive scans found by the threshold that has 90 % specificity on validation."""
    return weighted_mean(_specific(p), weight * (p.target == 1))


def specificity_achieved(p: Predictions, weight: Array) -> Array:
    """Share of the negative scans left alone by that threshold: what became of the 90 % on these scans."""
    return weighted_mean(1 - _specific(p), weight * (p.target == 0))


def _specific(p: Predictions) -> Array:
    return np.full(p.target.shape, np.nan) if p.specific is None else p.specific


def auroc(p: Predictions, weight: Array) -> Array:
    """Probability that a positive scan gets a higher prediction than a negative one, ties counting half.

    Of a cross-validation only pairs within one fold count. The models of two folds differ, so their predictions needn't
    compare; and pooled ones are biased downwards: a constant that is the training scans' mean is lowest where the
    positive scans were tested, and scores below 0.5 (Parker et al. 2007, BMC Bioinformatics 8:326). Other scores pool.
    """
    won, pairs = np.zeros(weight.shape[:-1]), np.zeros(weight.shape[:-1])
    for part in p.parts:
        w, is_positive = weight[..., part], p.target[part] == 1
        positive, negative = _at_each_value(p.prediction[part], w * is_positive, w * ~is_positive)
        won += (positive * (np.cumsum(negative, -1) - negative / 2)).sum(-1)
        pairs += positive.sum(-1) * negative.sum(-1)
    return won / pairs


def average_precision(p: Predictions, weight: Array) -> Array:
    """Precision averaged over the recall steps, from the highest prediction down, without interpolation."""
    is_positive = p.target == 1
    positive, negative = _at_each_value(-p.prediction, weight * is_positive, weight * ~is_positive)
    true = np.cumsum(positive, -1)
    selected = true + np.cumsum(negative, -1)
    precision = np.divide(true, selected, out=np.zeros_like(true), where=selected > 0)
    return weighted_mean(precision, positive)


def _at_each_value(values: Array, *weights: Array) -> list[Array]:
    """Sums of each of the weights over the scans at each distinct value, ascending: (…, distinct)."""
    order = np.argsort(values, kind="stable")
    start = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    ordered = (weight[..., order] for weight in weights)
    return [w if len(start) == len(order) else np.add.reduceat(w, start, -1) for w in ordered]


@dataclass(frozen=True)
class Metric:
    """How a score is computed and shown.

    Attributes:
        label: name on figures and in tables.
        higher_is_better: direction.
        in_target_unit: the score has the unit of the target, such as years.
        compute: from predictions and weight to the score.
        interval: a bootstrap gives its interval.
    """

    label: str
    higher_is_better: bool
    in_target_unit: bool
    compute: Callable[[Predictions, Array], Array]
    interval: bool = True


# The first of each kind is the one that models are compared by.
METRICS: dict[Kind, dict[str, Metric]] = {
    "classification": {
        "auroc": Metric("AUROC", True, False, auroc),
        "average_precision": Metric("Average precision", True, False, average_precision),
        "balanced_accuracy": Metric("Balanced accuracy", True, False, balanced_accuracy),
        "sensitivity_at_specificity": Metric(
            "Sensitivity at 90 % specificity", True, False, sensitivity_at_specificity
        ),
        "specificity_achieved": Metric("Specificity achieved", True, False, specificity_achieved),
        "brier": Metric("Brier score", False, False, brier),
        "ece": Metric("ECE", False, False, ece, interval=False),
    },
    "regression": {
        "mae": Metric("MAE", False, True, mae),
        "rmse": Metric("RMSE", False, True, rmse),
        "r2": Metric("R²", True, False, r2),
        "pearson": Metric("Pearson r", True, False, pearson),
        "spearman": Metric("Spearman ρ", True, False, spearman),
    },
}
PRIMARY: dict[Kind, str] = {kind: next(iter(metrics)) for kind, metrics in METRICS.items()}
