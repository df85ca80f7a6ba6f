import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn import metrics as sk
from torchmetrics.classification import BinaryCalibrationError

from neuro_ssl.evaluation.closed_form import auroc_interval, balanced_accuracy_interval
from neuro_ssl.evaluation.metrics import METRICS, Predictions, auroc


def repeated(score):
    return lambda p, w: score(*np.repeat([p.target, p.prediction], w, axis=1))


def calibration_error(target, prediction):
    return BinaryCalibrationError(n_bins=10)(torch.tensor(prediction), torch.tensor(target).int()).item()


# From predictions and whole weights.
ORACLES = {
    "auroc": lambda p, w: sk.roc_auc_score(p.target, p.prediction, sample_weight=w),
    "average_precision": lambda p, w: sk.average_precision_score(p.target, p.prediction, sample_weight=w),
    "balanced_accuracy": lambda p, w: sk.balanced_accuracy_score(p.target, p.decision, sample_weight=w),
    "sensitivity_at_specificity": lambda p, w: sk.recall_score(p.target, p.specific, sample_weight=w),
    "specificity_achieved": lambda p, w: sk.recall_score(p.target, p.specific, sample_weight=w, pos_label=0),
    "brier": lambda p, w: sk.brier_score_loss(p.target, p.prediction, sample_weight=w),
    "ece": repeated(calibration_error),
    "mae": repeated(sk.mean_absolute_error),
    "rmse": repeated(lambda t, p: sk.mean_squared_error(t, p) ** 0.5),
    "r2": repeated(sk.r2_score),
    "pearson": repeated(lambda t, p: np.corrcoef(t, p)[0, 1]),
    "spearman": repeated(lambda t, p: spearmanr(t, p).statistic),
}


def example(rng, kind, n=40, ties=False):
    if kind == "regression":
        target = rng.normal(50, 20, n)
        prediction = target + rng.normal(0, 5, n)
        return Predictions(*(x.round(-1) if ties else x for x in (target, prediction)))
    target, prediction = rng.integers(0, 2, n).astype(float), rng.random(n)
    if ties:
        prediction = 0.83 * prediction.round(1) + 0.07  # off the bins' edges, which torchmetrics has in float32
    return Predictions(target, prediction, None, *((prediction >= cut).astype(float) for cut in (0.4, 0.7)))


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_weighted_scores_equal_the_libraries(kind, ties, seed):
    rng = np.random.default_rng(seed)
    predictions = example(rng, kind, ties=ties)
    weight = rng.integers(0, 4, (7, 40))  # zeros included: subjects that a resample leaves out
    for name, metric in METRICS[kind].items():
        computed = metric.compute(predictions, weight.astype(float))
        assert computed.shape == (7,)
        for row, value in zip(weight, computed, strict=True):
            tolerance = 1e-6 if name == "ece" else 1e-9  # torchmetrics sums in float32
            assert value == pytest.approx(ORACLES[name](predictions, row), abs=tolerance), name


def test_a_decision_at_one_half_unless_validation_chose_another():
    target, prediction = np.array([0, 0, 1, 1.0]), np.array([0.2, 0.6, 0.4, 0.5])
    metrics, one = METRICS["classification"], np.ones(4)
    assert metrics["balanced_accuracy"].compute(Predictions(target, prediction), one) == 0.5
    chosen = Predictions(target, prediction, decision=np.array([0, 1, 1, 1.0]))
    assert metrics["balanced_accuracy"].compute(chosen, one) == 0.75
    assert np.isnan(metrics["sensitivity_at_specificity"].compute(chosen, one))
    one_unknown = Predictions(target, prediction, specific=np.array([0, 0, 1, np.nan]))
    assert np.isnan(metrics["sensitivity_at_specificity"].compute(one_unknown, one))


def test_auroc_counts_the_pairs_within_a_fold():
    rng = np.random.default_rng(3)
    target, prediction, fold = rng.integers(0, 2, 40).astype(float), rng.random(40).round(1), rng.integers(0, 3, 40)
    weight = rng.integers(0, 3, (5, 40)).astype(float)
    computed = auroc(Predictions(target, prediction, fold), weight)
    for row, value in zip(weight, computed, strict=True):
        won = pairs = 0.0
        for i in np.flatnonzero(target == 1):
            for j in np.flatnonzero((target == 0) & (fold == fold[i])):
                pairs += row[i] * row[j]
                won += row[i] * row[j] * ((prediction[i] > prediction[j]) + (prediction[i] == prediction[j]) / 2)
        assert value == pytest.approx(won / pairs)


def test_cross_validated_constants_score_one_half():
    rng = np.random.default_rng(4)
    target, fold = rng.integers(0, 2, 60).astype(float), np.arange(60) % 5
    # Each fold is told the share of the positive scans in the other folds.
    constant = np.array([target[fold != k].mean() for k in range(5)])[fold]
    assert auroc(Predictions(target, constant, fold), np.ones(60)) == 0.5
    assert auroc(Predictions(target, constant), np.ones(60)) < 0.45


def test_constants_have_no_correlation():
    target = np.linspace(20, 80, 30)
    for name in ("pearson", "spearman"):
        compute = METRICS["regression"][name].compute
        assert np.isnan(compute(Predictions(target, np.full(30, 50.1)), np.ones(30)))
        only_two_alike = np.zeros(30)
        only_two_alike[:2] = 3, 4
        prediction = np.where(np.arange(30) < 2, 1 / 3, target)
        assert np.isnan(compute(Predictions(target, prediction), only_two_alike))


def test_direction_matches_a_better_model():
    rng = np.random.default_rng(0)
    for kind, metrics in METRICS.items():
        target = np.arange(50) % 2.0 if kind == "classification" else rng.normal(50, 20, 50)
        noise = rng.normal(0, 1, 50)
        if kind == "classification":
            good, bad = (1 / (1 + np.exp(-(4 * target - 2 + k * noise))) for k in (1, 6))
        else:
            good, bad = target + noise, target + 10 * noise
        models = [Predictions(target, p, specific=(p > 0.6).astype(float)) for p in (good, bad)]
        for name, metric in metrics.items():
            gain = metric.compute(models[0], np.ones(50)) - metric.compute(models[1], np.ones(50))
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
