import numpy as np
import pytest
from sklearn import metrics as sk

from neuro_ssl.evaluation.metrics import METRICS, auroc_interval, balanced_accuracy_interval

ORACLES = {
    "auroc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "balanced_accuracy": lambda t, p, sample_weight: sk.balanced_accuracy_score(
        t, p >= 0.5, sample_weight=sample_weight
    ),
    "brier": sk.brier_score_loss,
    "mae": sk.mean_absolute_error,
    "rmse": lambda t, p, sample_weight: sk.mean_squared_error(t, p, sample_weight=sample_weight) ** 0.5,
    "r2": sk.r2_score,
    "pearson": lambda t, p, sample_weight: np.corrcoef(np.repeat([t, p], sample_weight, axis=1))[0, 1],
}


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("ties", [False, True])
def test_weighted_scores_equal_scikit_learn(kind, ties):
    rng = np.random.default_rng(1)
    target = rng.integers(0, 2, 40).astype(float) if kind == "classification" else rng.normal(50, 20, 40)
    prediction = rng.random(40) if kind == "classification" else target + rng.normal(0, 5, 40)
    if ties:
        prediction = prediction.round(1 if kind == "classification" else -1)
    weight = rng.integers(0, 4, (7, 40))  # zeros included: subjects that a resample leaves out
    for name, metric in METRICS[kind].items():
        computed = metric.compute(target, prediction, weight.astype(float))
        for row, value in zip(weight, computed, strict=True):
            assert value == pytest.approx(ORACLES[name](target, prediction, sample_weight=row), abs=1e-9), name


def test_direction_matches_a_better_model():
    rng = np.random.default_rng(0)
    for kind, metrics in METRICS.items():
        target = np.arange(50) % 2.0 if kind == "classification" else rng.normal(50, 20, 50)
        noise = rng.normal(0, 1, 50)
        if kind == "classification":
            good, bad = (1 / (1 + np.exp(-(4 * target - 2 + k * noise))) for k in (1, 6))
        else:
            good, bad = target + noise, target + 10 * noise
        for name, metric in metrics.items():
            gain = metric.compute(target, good, np.ones(50)) - metric.compute(target, bad, np.ones(50))
            assert (gain > 0) == metric.higher_is_better, name


def test_auroc_interval_solves_newcombes_equation():
    # At the limits, |value - theta| = z·sqrt(V(theta)), V written out as published.
    for value, m, n in ((0.9, 10, 14), (1.0, 8, 8), (0.5, 30, 30), (0.0, 5, 9)):
        low, high = auroc_interval(value, m, n)
        half = (m + n) / 2 - 1
        for theta in {low, high} - {0.0, 1.0}:
            v = theta * (1 - theta) * (1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)) / (m * n)
            assert abs(value - theta) == pytest.approx(1.959964 * v**0.5, rel=1e-5)
        assert low <= value <= high
        assert high - low > 0.1
    assert auroc_interval(1.0, 8, 8)[1] == 1.0
    assert auroc_interval(0.0, 5, 9)[0] == 0.0


def test_balanced_accuracy_interval_by_hand():
    # Wilson's limits of 10 of 10: 1/(1 + z²/10) = 0.7225 and 1; of 5 of 10: 0.2366 and 0.7634.
    low, high = balanced_accuracy_interval(1.0, 0.5, 10, 10)
    assert low == pytest.approx(0.75 - np.hypot(1 - 0.7225, 0.5 - 0.2366) / 2, abs=1e-4)
    assert high == pytest.approx(0.75 + (0.7634 - 0.5) / 2, abs=1e-4)
