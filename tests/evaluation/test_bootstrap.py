import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm

from neuro_ssl.evaluation.bootstrap import MAX_GROUPS, Subjects, bootstrap_interval, bootstrap_intervals, subjects_of
from neuro_ssl.evaluation.metrics import METRICS, Predictions
from neuro_ssl.evaluation.scores import mean_over

REGRESSION = list(METRICS["regression"])
CLASSIFICATION = ["auroc", "average_precision", "balanced_accuracy", "brier"]


def example(kind, n):
    rng = np.random.default_rng(n)
    if kind == "regression":
        target = rng.gamma(2, 10, n)
        return Predictions(target, target + rng.standard_t(4, n) * 5)
    target = (np.arange(n) % 5 < 2).astype(float)
    return Predictions(target, norm.cdf(target - 0.5 + rng.normal(size=n)))


def strata_of(kind, predictions):
    if kind == "regression":
        return (np.arange(len(predictions.target)),)
    return tuple(np.flatnonzero(predictions.target == label) for label in (1, 0))


def by_scipy(kind, name, predictions, n_resamples, seed):
    """The score of the scans that are drawn, row by row, through SciPy's own BCa bootstrap."""

    def score(*scans, axis):
        drawn = np.concatenate(scans, axis=-1)
        one = np.ones(drawn.shape[-1])
        values = [
            METRICS[kind][name].compute(Predictions(predictions.target[row], predictions.prediction[row]), one)
            for row in drawn.reshape(-1, drawn.shape[-1])
        ]
        return np.round(np.reshape(values, drawn.shape[:-1]), 12)

    strata, rng = strata_of(kind, predictions), np.random.default_rng(seed)
    interval = bootstrap(strata, score, n_resamples=n_resamples, vectorized=True, axis=-1, method="BCa", rng=rng)
    return list(interval.confidence_interval)


@pytest.mark.parametrize(("kind", "names"), [("regression", REGRESSION), ("classification", CLASSIFICATION)])
def test_the_same_draws_give_the_intervals_of_scipy(kind, names):
    predictions = example(kind, 40)
    subjects = Subjects(np.arange(40), strata_of(kind, predictions))
    statistics = {name: mean_over([predictions], METRICS[kind][name].compute) for name in names}
    scores = bootstrap_intervals(statistics, subjects, seed=3, n_resamples=300)
    for name in names:
        expected = by_scipy(kind, name, predictions, 300, seed=3)
        assert [scores[name].low, scores[name].high] == pytest.approx(expected, rel=1e-9), name
        alone = bootstrap_interval(statistics[name], subjects, seed=3, n_resamples=300)
        assert alone == scores[name]


@pytest.mark.parametrize(
    ("kind", "name"), [("regression", "mae"), ("regression", "pearson"), ("classification", "auroc")]
)
def test_groups_of_many_subjects_accelerate_as_single_ones(kind, name):
    predictions = example(kind, 1700)  # of the classification, both classes are larger than MAX_GROUPS
    subjects = Subjects(np.arange(1700), strata_of(kind, predictions))
    assert min(map(len, subjects.strata)) > MAX_GROUPS
    compute = METRICS[kind][name].compute
    score = bootstrap_interval(mean_over([predictions], compute), subjects, seed=1, n_resamples=400)
    low, high = by_scipy(kind, name, predictions, 400, seed=1)
    assert [score.low, score.high] == pytest.approx([low, high], abs=0.02 * (high - low))


def test_the_number_of_evaluations_does_not_grow_with_the_square_of_the_subjects():
    evaluated = []

    def mean(weight):
        evaluated.append(len(weight))
        return weight @ np.arange(weight.shape[1]) / weight.sum(-1)

    subjects = Subjects(np.arange(5000), (np.arange(2000), np.arange(2000, 5000)))
    bootstrap_interval(mean, subjects, n_resamples=50)
    assert sum(evaluated) == 1 + 50 + 2 * MAX_GROUPS


def test_scans_go_with_their_subject_and_strata_keep_their_sizes():
    table = pd.DataFrame({"subject_id": ["b", "a", "b", *"cdefghijk"], "target": [1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0]})
    subjects = subjects_of(table, "classification")
    ever_positive = {"b", "c", "d", "e", "f"}  # b has a scan of either class
    names = np.unique(table["subject_id"])
    assert [set(names[stratum]) for stratum in subjects.strata] == [ever_positive, set(names) - ever_positive]
    weights = []
    bootstrap_interval(lambda weight: weights.append(weight) or weight @ np.arange(12), subjects, n_resamples=30)
    (drawn,) = [w for w in weights if len(w) == 30]
    assert (drawn[:, 0] == drawn[:, 2]).all() and drawn[:, 0].max() > 1
    positive = table["subject_id"].isin(ever_positive).to_numpy() & (np.arange(12) != 2)
    assert (drawn[:, positive].sum(1) == 5).all()


def test_no_interval_where_there_is_nothing_to_resample():
    few, enough = (Subjects(np.arange(n), (np.arange(n),)) for n in (4, 5))
    values = np.array([1.0, 5, 2, 9, 3])
    assert np.isnan(bootstrap_interval(lambda w: w @ values[:4] / 4, few).low)
    assert bootstrap_interval(lambda w: w @ values / 5, enough).low < 4
    constant = bootstrap_interval(lambda w: w @ np.full(5, 0.1) / 5, enough)
    assert constant.value == pytest.approx(0.1) and np.isnan([constant.low, constant.high]).all()
    undefined = bootstrap_interval(lambda w: np.where(w[:, 0] > 0, w @ values, np.nan), enough)
    assert undefined.value == 20 and np.isnan([undefined.low, undefined.high]).all()
