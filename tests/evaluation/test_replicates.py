import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp
from sklearn.metrics import roc_auc_score
from test_scores import decided, predictions

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.evaluation.scores import difference, over_replicates, score_predictions


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


def test_an_auroc_without_a_fold_of_both_classes_is_undefined_and_has_no_interval():
    """As of sites with patients alone and sites with controls alone, each predicted by a model of the others."""
    random = np.random.default_rng(0)
    n = 20
    table = pd.DataFrame({"subject_id": [f"s{i}" for i in range(2 * n)], "target": [0] * n + [1] * n})
    table = table.assign(scan_id=table["subject_id"], fold=table["target"], replicate="0")
    scores = score_predictions(table.assign(prediction=random.uniform(size=2 * n)), "classification", n_resamples=100)
    assert np.isnan([scores["auroc"].value, scores["auroc"].low, scores["auroc"].high]).all()
    assert scores["brier"].low < scores["brier"].value < scores["brier"].high
