import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm, ttest_1samp
from sklearn.metrics import roc_auc_score

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.evaluation.scores import difference, over_replicates, score_predictions


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


def replicated(kind, seeds, n=60):
    """Models of several seeds on the same scans."""
    tables = [predictions(kind, n).assign(replicate=f"seed {seed}") for seed in seeds]
    for seed, table in zip(seeds, tables, strict=True):
        if kind == "regression":
            table["prediction"] += np.random.default_rng(seed).normal(0, 4, n)
        else:
            table["prediction"] = np.random.default_rng(seed).random(n) / 2 + table["prediction"] / 2
    return decided(pd.concat(tables, ignore_index=True))


@pytest.mark.parametrize("kind", METRICS)
def test_a_score_of_replicates_is_the_mean_of_theirs(kind):
    table = replicated(kind, (1, 2, 3))
    scores = score_predictions(table.sample(frac=1, random_state=0), kind)
    single = [score_predictions(rows, kind) for _, rows in table.groupby("replicate")]
    for name, score in scores.items():
        assert score.value == pytest.approx(np.mean([s[name].value for s in single]))


def test_a_resample_has_the_same_subjects_in_every_replicate():
    table = predictions("regression").assign(replicate="a")
    error = np.random.default_rng(0).uniform(1, 9, len(table))
    first = table.assign(prediction=table["target"] + error)
    second = table.assign(prediction=table["target"] + 10 - error, replicate="b")
    score = score_predictions(pd.concat([first, second]), "regression")["mae"]
    # Whoever is drawn, the two mean errors make 10 together.
    assert score.value == pytest.approx(5) and np.isnan([score.low, score.high]).all()


def test_equal_replicates_are_as_good_as_one():
    one = decided(predictions("classification", scans=2))
    three = pd.concat([one.assign(replicate=k) for k in range(3)])
    for name, score in score_predictions(one, "classification").items():
        repeated = score_predictions(three, "classification")[name]
        assert [*vars(repeated).values()] == pytest.approx([*vars(score).values()], abs=1e-11, nan_ok=name == "ece")


def test_a_difference_between_many_replicates_and_one():
    seeds = replicated("regression", (1, 2, 3))
    one = predictions("regression")
    delta = difference(seeds, one, "regression", "mae")
    means = [score_predictions(rows, "regression")["mae"].value for _, rows in seeds.groupby("replicate")]
    assert delta.value == pytest.approx(np.mean(means) - score_predictions(one, "regression")["mae"].value)
    assert 0 < delta.low < delta.value < delta.high


def test_replicates_must_have_the_same_scans():
    table = replicated("regression", (1, 2, 3))
    with pytest.raises(InputError, match="replicate seed 2: its scans"):
        score_predictions(table[(table["replicate"] != "seed 2") | (table.index % 7 > 0)], "regression")
    relabelled = table.assign(target=table["target"].where(table.index != len(table) - 1, 33.0))
    with pytest.raises(InputError, match="replicate seed 3: its scans or their targets"):
        score_predictions(relabelled, "regression")
    with pytest.raises(InputError, match="scan_id"):
        score_predictions(table.drop(columns="scan_id"), "regression")


@pytest.mark.parametrize("column", ["replicate", "fold", "decision"])
def test_a_column_is_given_for_all_rows_or_for_none(column):
    table = predictions("classification")
    empty = score_predictions(table.assign(**{column: pd.NA}), "classification")
    assert empty["auroc"] == score_predictions(table, "classification")["auroc"]
    partly = table.assign(**{column: pd.Series([pd.NA] * 7 + [True] * 53, dtype="boolean")})
    with pytest.raises(InputError, match=f"7 of 60 rows lack {column}"):
        score_predictions(partly, "classification")


def test_decisions_come_from_their_columns():
    table = decided(predictions("classification"), decision=0.3, specific=0.8)
    scores = score_predictions(table, "classification")
    positive = table["target"] == 1
    sensitivity, specificity = table["decision"][positive].mean(), 1 - table["decision"][~positive].mean()
    assert scores["balanced_accuracy"].value == pytest.approx((sensitivity + specificity) / 2)
    assert scores["sensitivity_at_specificity"].value == pytest.approx(table["decision_specific"][positive].mean())
    assert scores["specificity_achieved"].value == pytest.approx(1 - table["decision_specific"][~positive].mean())
    unknown = table.assign(decision_specific=pd.Series([pd.NA] + [True] * 59, dtype="boolean"))
    scores = score_predictions(unknown, "classification")
    assert np.isnan(scores["sensitivity_at_specificity"].value) and np.isfinite(scores["balanced_accuracy"].value)


def test_a_rate_of_one_has_wilsons_interval():
    table = decided(predictions("classification", n=30), specific=2)  # nobody is called positive
    scores = score_predictions(table, "classification")
    low, high = binomtest(15, 15).proportion_ci(method="wilson")
    assert [*vars(scores["specificity_achieved"]).values()] == pytest.approx([1, low, high])
    assert [*vars(scores["sensitivity_at_specificity"]).values()] == pytest.approx([0, 1 - high, 1 - low])


def test_cross_validated_predictions_are_ranked_within_their_fold():
    table = predictions("classification").assign(fold=lambda t: np.arange(len(t)) // 2 % 5)
    # Folds whose predictions differ by a constant rank their own scans as before.
    shifted = table.assign(prediction=table["prediction"] / 2 + 0.1 * table["fold"])
    score, other = (score_predictions(t, "classification")["auroc"] for t in (table, shifted))
    assert score == other
    assert score.low < score.value < score.high
    aurocs = [roc_auc_score(rows["target"], rows["prediction"]) for _, rows in table.groupby("fold")]
    assert score.value == pytest.approx(np.mean(aurocs))  # all folds have 6 of each class, so as many pairs
    constant = score_predictions(table.assign(prediction=0.1 * table["fold"]), "classification")["auroc"]
    assert constant.value == 0.5 and np.isnan([constant.low, constant.high]).all()


def test_over_seeds_the_interval_is_student_s():
    values = [0.8, 0.84, 0.79, 0.9, 0.86]
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert [*vars(over_replicates(values)).values()] == pytest.approx([np.mean(values), low, high])
    for too_few in ([0.7], [0.7, 0.8], [0.7, 0.7, 0.7]):
        score = over_replicates(too_few)
        assert score.value == pytest.approx(np.mean(too_few)) and np.isnan([score.low, score.high]).all()


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
