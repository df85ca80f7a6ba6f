import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.evaluation.scores import difference, score_predictions


def predictions(kind, n=60, scans=1, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), scans)
    if kind == "classification":
        target = subject % 2
        prediction = 1 / (1 + np.exp(-(2 * target - 1 + noise * rng.normal(size=n)[subject])))
    else:
        target = rng.uniform(20, 90, n)[subject]
        prediction = target + 5 * noise * rng.normal(size=len(subject))
    ids = [f"c/{s:03d}" for s in subject]
    scan_ids = [f"{i}_{k}" for k, i in enumerate(ids)]
    return pd.DataFrame({"scan_id": scan_ids, "subject_id": ids, "target": target, "prediction": prediction})


def decided(table, decision=0.5, specific=0.7):
    decisions = (table["prediction"] >= decision, table["prediction"] >= specific)
    return table.assign(decision=decisions[0], decision_specific=decisions[1])


@pytest.mark.parametrize("kind", METRICS)
def test_deterministic_whatever_the_row_order_and_fast(kind):
    table = decided(predictions(kind, scans=2, noise=1.6))
    start = time.perf_counter()
    scores = score_predictions(table, kind)
    assert time.perf_counter() - start < 1.0
    assert scores == score_predictions(table.sample(frac=1, random_state=3), kind)
    assert scores != score_predictions(table, kind, seed=1)
    for name, score in scores.items():
        if name == "ece":  # noise alone makes it positive
            assert score.value > 0 and np.isnan([score.low, score.high]).all()
        else:
            assert score.low < score.value < score.high


def test_auroc_interval_close_to_a_naive_bca_bootstrap_over_subjects():
    table = predictions("classification", n=40, scans=2, noise=2.5)
    target, prediction = table["target"].to_numpy(), table["prediction"].to_numpy()
    scans = {s: np.flatnonzero(table["subject_id"] == s) for s in table["subject_id"]}
    classes = [[s for s in scans if target[scans[s][0]] == k] for k in (0, 1)]

    def auroc(subjects):
        rows = np.concatenate([scans[s] for s in subjects])
        t, p = target[rows], prediction[rows]
        return round((p[t == 1][:, None] > p[t == 0]).mean(), 12)  # there are no ties

    value = auroc(scans)
    rng = np.random.default_rng(5)
    draws = np.array([auroc([s for c in classes for s in rng.choice(c, len(c))]) for _ in range(5000)])
    # Efron & Tibshirani 1993, equations 14.9 to 14.15; the acceleration of two samples as the sum over both.
    z0 = norm.ppf((draws < value).mean() + (draws == value).mean() / 2)
    top = bottom = 0.0
    for c in classes:
        left_out = np.array([auroc([s for s in scans if s != out]) for out in c])
        influence = (len(c) - 1) * (left_out.mean() - left_out)
        top += (influence**3).sum() / len(c) ** 3
        bottom += (influence**2).sum() / len(c) ** 2
    acceleration = top / (6 * bottom**1.5)
    z = z0 + norm.ppf([0.025, 0.975])
    expected = np.quantile(draws, norm.cdf(z0 + z / (1 - acceleration * z)))

    score = score_predictions(table, "classification", n_resamples=5000)["auroc"]
    assert score.value == pytest.approx(value)
    assert [score.low, score.high] == pytest.approx(list(expected), abs=0.015)


def test_repeated_scans_of_a_subject_do_not_narrow_the_interval():
    once = decided(predictions("classification", n=40))
    thrice = pd.concat([once, once, once])
    for name, score in score_predictions(thrice, "classification").items():
        expected = score_predictions(once, "classification")[name]
        assert [score.value, score.low, score.high] == pytest.approx(
            [expected.value, expected.low, expected.high], abs=1e-9, nan_ok=name == "ece"
        )


def coverage(n_tables, n_subjects, n_resamples):
    # MAE of a prediction of 0 is the mean of |target|; E|target| is known for a normal: sigma·sqrt(2/pi).
    truth, hits = (2 / np.pi) ** 0.5, 0
    for seed in range(n_tables):
        target = np.random.default_rng(seed).normal(size=n_subjects)
        ids = [f"{i:04d}" for i in range(n_subjects)]
        table = pd.DataFrame({"scan_id": ids, "subject_id": ids, "target": target, "prediction": 0.0})
        mae = score_predictions(table, "regression", n_resamples=n_resamples)["mae"]
        hits += mae.low <= truth <= mae.high
    return hits / n_tables


def test_interval_covers_the_truth():
    assert 0.85 <= coverage(60, 40, 300) <= 1.0


@pytest.mark.slow
def test_interval_covers_the_truth_as_often_as_it_says():
    assert 0.93 <= coverage(1500, 60, 1000) <= 0.965


def test_perfect_separation_is_not_certainty():
    table = predictions("classification", n=20)
    table["prediction"] = 0.1 + 0.8 * table["target"]
    scores = score_predictions(table, "classification")
    assert scores["auroc"].value == scores["auroc"].high == 1.0
    assert 0.7 < scores["auroc"].low < 0.9
    assert 0.7 < scores["balanced_accuracy"].low < 0.9
    assert scores["average_precision"].value == 1.0
    assert np.isnan(scores["average_precision"].low)


def test_perfect_specificity_still_has_an_interval():
    table = predictions("classification", n=20)
    table["prediction"] = np.where(table["target"] == 0, 0.2, np.where(np.arange(20) % 4 == 1, 0.3, 0.9))
    score = score_predictions(table, "classification")["balanced_accuracy"]
    assert score.value == 0.75
    # Sensitivity alone (5 of 10) would give 0.75 ± 0.13 above; specificity's doubt lowers the low end further.
    assert score.low < 0.57


@pytest.mark.parametrize("kind", METRICS)
def test_constant_prediction(kind):
    scores = score_predictions(predictions(kind).assign(prediction=0.5), kind)
    if kind == "classification":
        assert scores["auroc"].value == 0.5
        assert scores["balanced_accuracy"].value == 0.5
        # By definition: any interval would be about nothing.
        assert all(np.isnan(scores[name].low) for name in ("auroc", "balanced_accuracy", "average_precision"))
    else:
        assert all(np.isnan([scores["pearson"].value, scores["pearson"].low, scores["pearson"].high]))
        assert scores["mae"].low < scores["mae"].value < scores["mae"].high


def test_a_handful_of_subjects_has_scores_but_no_bootstrap_interval():
    scores = score_predictions(predictions("regression", n=4), "regression")
    assert all(np.isfinite(s.value) and np.isnan(s.low) for s in scores.values())
    assert np.isfinite(score_predictions(predictions("classification", n=4), "classification")["auroc"].low)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 1}, "both classes"),
        ({"prediction": 1.5}, "c/000.*probability"),
        ({"prediction": np.nan}, "c/000"),
        ({"target": 2}, "target 2"),
    ],
)
def test_wrong_tables_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        score_predictions(predictions("classification").assign(**change), "classification")


def test_missing_column_and_empty_table_are_refused():
    table = predictions("regression")
    with pytest.raises(InputError, match="subject_id"):
        score_predictions(table.drop(columns="subject_id"), "regression")
    with pytest.raises(InputError, match="empty"):
        score_predictions(table[:0], "regression")


def test_difference_is_paired():
    a = predictions("regression", noise=1.0)
    b = a.assign(prediction=a["prediction"] + 3 * np.sign(a["prediction"] - a["target"]))  # 3 more error, each
    delta = difference(a, b.sample(frac=1, random_state=0), "regression", "rmse")
    unpaired = score_predictions(a, "regression")["rmse"]
    assert delta.value < delta.high < 0
    assert delta.high - delta.low < (unpaired.high - unpaired.low) / 2
    swapped = difference(b, a, "regression", "rmse")
    assert swapped.value == pytest.approx(-delta.value)
    # Differing by exactly 3 in every subject, the MAE has no spread to resample.
    mae = difference(a, b, "regression", "mae")
    assert mae.value == pytest.approx(-3)


def test_difference_of_equal_models_is_zero_without_interval():
    a = predictions("classification")
    delta = difference(a, a, "classification", "auroc")
    assert delta.value == 0
    assert np.isnan([delta.low, delta.high]).all()


@pytest.mark.parametrize("column", ["scan_id", "subject_id", "target"])
def test_difference_needs_the_same_scans(column):
    a = predictions("regression")
    b = a.copy()
    b.loc[5, column] = 33.0 if column == "target" else "c/999"
    with pytest.raises(InputError, match="differ"):
        difference(a, b, "regression", "mae")
    with pytest.raises(InputError, match="differ"):
        difference(a, a[:-1], "regression", "mae")


def simulated(kind, rng, n=200):
    ids = [f"{i:04d}" for i in range(n)]
    if kind == "regression":
        target = rng.normal(50, 15, n)
        prediction = 50 + 0.8 * (target - 50) + rng.normal(0, 7, n)
        decision = pd.NA
    else:  # binormal
        target = (rng.random(n) < 0.4).astype(float)
        score = 1.2 * target + rng.normal(size=n)
        prediction, decision = norm.cdf(score - 0.6), score >= 0.7
    return pd.DataFrame({"subject_id": ids, "target": target, "prediction": prediction, "decision": decision})


@pytest.mark.slow
@pytest.mark.parametrize("kind", METRICS)
def test_intervals_at_200_subjects_cover_the_truth_as_often_as_they_say(kind):
    error = (0.2**2 * 15**2 + 7**2) ** 0.5
    truth = {
        "auroc": norm.cdf(1.2 / 2**0.5),
        "balanced_accuracy": (norm.cdf(0.7) + norm.sf(0.7 - 1.2)) / 2,
        "mae": error * (2 / np.pi) ** 0.5,
        "r2": 1 - error**2 / 15**2,
        "pearson": 0.8 * 15 / (0.8**2 * 15**2 + 7**2) ** 0.5,
    }
    names = truth.keys() & METRICS[kind].keys()
    n_tables, hits = 2000, dict.fromkeys(names, 0)
    for seed in range(n_tables):
        scores = score_predictions(simulated(kind, np.random.default_rng([7, seed])), kind, seed=seed, n_resamples=1000)
        for name in names:
            hits[name] += scores[name].low <= truth[name] <= scores[name].high
    coverage = {name: n / n_tables for name, n in hits.items()}
    print(coverage)
    assert all(0.93 <= share <= 0.97 for share in coverage.values()), coverage
