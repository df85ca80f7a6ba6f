import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, linregress
from sklearn.calibration import calibration_curve as sklearn_curve
from sklearn.metrics import balanced_accuracy_score

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.calibration import (
    age_gap,
    bias_correction,
    calibration_curve,
    thresholds,
    with_corrected,
    with_decisions,
)
from neuro_ssl.evaluation.scores import score_predictions


def table_of(kind, n=60, seed=0, **more):
    rng = np.random.default_rng(seed)
    if kind == "classification":
        target = (np.arange(n) % 3 == 0).astype(float)
        prediction = 1 / (1 + np.exp(-(target - 1.5 + rng.normal(size=n))))
    else:
        target = rng.uniform(20, 90, n)
        prediction = 55 + 0.6 * (target - 50) + rng.normal(0, 6, n)
    ids = [f"{seed}/{i:03d}" for i in range(n)]
    split = np.where(np.arange(n) < n // 2, "val", "test")
    columns = {"scan_id": ids, "subject_id": ids, "split": split, "target": target, "prediction": prediction}
    return pd.DataFrame(columns | more)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6])
def test_thresholds_are_the_best_of_all(seed, digits):
    rng = np.random.default_rng(seed)
    target = (np.arange(37) % 3 == 0).astype(float)
    prediction = np.clip(0.2 * target + 0.8 * rng.random(37), 0, 1).round(digits)
    chosen = thresholds(target, prediction)
    everywhere = np.concatenate([prediction, prediction + 1e-9])
    accuracies = [balanced_accuracy_score(target, prediction >= cut) for cut in everywhere]
    assert balanced_accuracy_score(target, prediction >= chosen.decision) == pytest.approx(max(accuracies))
    specificities = np.array([(prediction[target == 0] < cut).mean() for cut in everywhere])
    reached = (prediction[target == 0] < chosen.specific).mean()
    assert reached == specificities[specificities >= 0.9].min()


def test_thresholds_lie_between_neighbours():
    target = np.array([0, 0, 0, 1, 1, 1.0])
    chosen = thresholds(target, np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.9]))
    assert (chosen.decision, chosen.specific) == pytest.approx((0.4, 0.4))
    # 0.25 and 0.65 are equally good; the nearer to 0.5 is taken, in whichever order the scans come.
    target, prediction = np.array([0, 1, 0, 1.0]), np.array([0.2, 0.3, 0.6, 0.7])
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert thresholds(target[order], prediction[order]).decision == pytest.approx(0.65)
    # Nine of ten negatives suffice for 90 %.
    prediction = np.append(np.arange(10) / 20, 0.8)
    assert thresholds(np.append(np.zeros(10), 1), prediction).specific == pytest.approx(0.425)


def test_thresholds_of_a_tiny_validation_set():
    for negatives in ([], [0.2], [0.2, 0.4]):
        for positives in ([], [0.7]):
            target = np.repeat([0.0, 1.0], [len(negatives), len(positives)])
            chosen = thresholds(target, np.array(negatives + positives))
            if not (negatives and positives):
                assert chosen.decision == 0.5
            if not negatives:
                assert np.isnan(chosen.specific)
            else:
                upper = min(positives, default=1.0)
                assert chosen.specific == pytest.approx((negatives[-1] + upper) / 2)
    assert thresholds(np.array([0, 1.0]), np.array([0.3, 0.3])).decision == 0.5
    # A negative scan of probability 1 leaves nothing to call positive.
    assert thresholds(np.array([0, 1.0]), np.array([1.0, 1.0])).specific > 1


def test_every_model_decides_by_its_own_validation_scans():
    tables = [
        table_of("classification", seed=seed, replicate=f"seed {seed}", fold=fold) for seed in (0, 1) for fold in (0, 1)
    ]
    tables[3]["prediction"] /= 2
    table = pd.concat(tables).sample(frac=1, random_state=0)
    decided = with_decisions(table)
    pd.testing.assert_frame_equal(decided[table.columns], table)
    assert decided["decision"].dtype == decided["decision_specific"].dtype == "boolean"
    for _, rows in decided.groupby(["replicate", "fold"]):
        val = rows[rows["split"] == "val"]
        chosen = thresholds(val["target"].to_numpy(), val["prediction"].to_numpy())
        assert (rows["decision"] == (rows["prediction"] >= chosen.decision)).all()
        assert (rows["decision_specific"] == (rows["prediction"] >= chosen.specific)).all()
    # A model whose probabilities are half as large is as good once its own threshold is used.
    whole, half = (with_decisions(t.drop(columns=["replicate", "fold"])) for t in (tables[2], tables[3]))
    assert (whole["decision"].to_numpy() == half["decision"].to_numpy()).all()


def test_without_a_negative_validation_scan_the_second_decision_is_missing():
    table = table_of("classification")
    table = table[(table["split"] == "test") | (table["target"] == 1)]
    decided = with_decisions(table)
    assert decided["decision_specific"].isna().all()
    assert (decided["decision"] == (decided["prediction"] >= 0.5)).all()
    scores = score_predictions(decided[decided["split"] == "test"], "classification")
    assert np.isnan(scores["sensitivity_at_specificity"].value) and np.isfinite(scores["balanced_accuracy"].value)


@pytest.mark.parametrize("add", [with_decisions, with_corrected])
def test_a_model_without_validation_scans_is_named(add):
    table = table_of("classification", fold=1)
    with pytest.raises(InputError, match="fold 2 has no rows of the split val"):
        add(pd.concat([table, table.assign(split="test", fold=2)]))
    with pytest.raises(InputError, match="the model has no rows"):
        add(table.assign(split="test").drop(columns="fold"))
    with pytest.raises(InputError, match="split"):
        add(table.drop(columns="split"))


def test_calibration_curve_is_scikit_learns_with_wilsons_intervals():
    table = table_of("classification", n=300)
    curve = calibration_curve(table)
    observed, predicted = sklearn_curve(table["target"], table["prediction"], n_bins=10)
    np.testing.assert_allclose(curve[["observed", "prediction"]], np.column_stack([observed, predicted]))
    assert curve["n_subjects"].sum() == 300
    row = curve.iloc[2]
    wilson = binomtest(round(row["observed"] * row["n_subjects"]), int(row["n_subjects"])).proportion_ci(
        method="wilson"
    )
    assert (row["low"], row["high"]) == pytest.approx((wilson.low, wilson.high))
    weights = curve["n_subjects"] / 300
    ece = score_predictions(table, "classification")["ece"].value
    assert ece == pytest.approx((weights * (curve["observed"] - curve["prediction"]).abs()).sum())
    # Three replicates of the same subjects are no more subjects.
    again = calibration_curve(pd.concat([table.assign(replicate=k) for k in range(3)]))
    pd.testing.assert_frame_equal(again, curve)
    quantiles = calibration_curve(table, n_quantiles=4)
    observed, predicted = sklearn_curve(table["target"], table["prediction"], n_bins=4, strategy="quantile")
    np.testing.assert_allclose(quantiles[["observed", "prediction"]], np.column_stack([observed, predicted]))


def test_bias_correction_is_the_line_of_predicted_on_true_age():
    table = table_of("regression")
    line = linregress(table["target"], table["prediction"])
    fitted = bias_correction(table["target"].to_numpy(), table["prediction"].to_numpy())
    assert fitted == pytest.approx((line.intercept, line.slope))
    for ages in ([30.0, 40.0], [50.0] * 9):
        assert np.isnan(bias_correction(np.array(ages), np.arange(len(ages)))).all()


def test_the_corrected_gap_does_not_hang_on_age():
    table = with_corrected(table_of("regression", n=400))
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    assert linregress(val["target"], val["corrected"] - val["target"]).slope == pytest.approx(0, abs=1e-12)
    gap = age_gap(test)
    for name, column in (("", "prediction"), ("_corrected", "corrected")):
        line = linregress(test["target"], test[column] - test["target"])
        assert gap[f"slope{name}"].value == pytest.approx(line.slope)
        assert gap[f"correlation{name}"].value == pytest.approx(line.rvalue)
        # About as wide as the textbook's.
        width = gap[f"slope{name}"].high - gap[f"slope{name}"].low
        assert width == pytest.approx(2 * 1.96 * line.stderr, rel=0.2)
    assert gap["slope"].high < -0.3 and gap["correlation"].high < -0.5
    assert gap["slope_corrected"].low < 0 < gap["slope_corrected"].high
    # What is left has the spread of the noise.
    assert (test["corrected"] - test["target"]).std() == pytest.approx(6, rel=0.1)


def test_age_gap_of_replicates_is_their_mean_and_without_a_fit_unknown():
    first = table_of("regression").assign(replicate=0)
    second = first.assign(replicate=1, prediction=first["prediction"] * 0.5 + 20)
    table = with_corrected(pd.concat([first, second]))
    test = table[table["split"] == "test"]
    single = [age_gap(rows)["slope"].value for _, rows in test.groupby("replicate")]
    assert age_gap(test)["slope"].value == pytest.approx(np.mean(single))
    few = first.iloc[28:].drop(columns="replicate")  # two validation scans
    gap = age_gap(with_corrected(few).query("split == 'test'"))
    assert np.isfinite(gap["slope"].low) and np.isnan(gap["slope_corrected"].value)
    with pytest.raises(InputError, match="corrected"):
        age_gap(few)
