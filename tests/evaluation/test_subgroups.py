import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.scores import score_predictions
from neuro_ssl.evaluation.subgroups import subgroups


def cohort(kind, n=90, scans=2, seed=0):
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), scans)
    age = np.round(rng.uniform(20, 90, n), 1)[subject]
    sex = np.where(rng.random(n) < 0.5, "F", "M")[subject]
    diagnosis = np.where(subject % 3 == 0, "AD", "CN")
    target = (diagnosis == "AD").astype(float) if kind == "classification" else age
    noise = rng.normal(size=len(subject))
    prediction = 1 / (1 + np.exp(-(2 * target - 1 + noise))) if kind == "classification" else age + 5 * noise
    ids = np.array([f"c/{s:03d}" for s in subject])
    return pd.DataFrame(
        {
            "scan_id": [f"{i[2:]}_{k}" for k, i in enumerate(ids)],
            "subject_id": ids,
            "age_years": age,
            "sex": sex,
            "diagnosis": diagnosis,
            "site": np.array(["a", "b", None], object)[subject % 3],
            "target": target,
            "prediction": prediction,
        }
    )


def test_levels_are_scored_as_tables_of_their_own():
    table = cohort("regression")
    rows = subgroups(table.sample(frac=1, random_state=0), "regression", metrics=["mae", "r2"], n_resamples=300)
    assert rows.groupby("subgroup", sort=False)["level"].unique().map(list).to_dict() == {
        "sex": ["F", "M"],
        "age_band": ["<40", "40–59", "60–74", "≥75"],
        "site": ["a", "b", "unknown"],
        "diagnosis": ["AD", "CN"],
    }
    bands = {"<40": (0, 39.99), "40–59": (40, 59.99), "60–74": (60, 74.99), "≥75": (75, 200)}
    for row in rows.itertuples():
        if row.subgroup == "age_band":
            part = table[table["age_years"].between(*bands[row.level])]
        elif row.level == "unknown":
            part = table[table[row.subgroup].isna()]
        else:
            part = table[table[row.subgroup] == row.level]
        expected = score_predictions(part, "regression", n_resamples=300)[row.metric]
        assert [row.value, row.low, row.high] == pytest.approx([expected.value, expected.low, expected.high])
        assert (row.n_subjects, row.n_scans) == (part["subject_id"].nunique(), len(part))
        assert not row.few
    for _, of_column in rows[rows["metric"] == "mae"].groupby("subgroup"):
        assert of_column["n_scans"].sum() == len(table)


def test_a_level_with_one_class_has_what_needs_no_other():
    table = cohort("classification")
    rows = subgroups(table, "classification", by=["diagnosis", "sex"], metrics=["auroc", "brier"], n_resamples=300)
    rows = rows.set_index(["level", "metric"])
    assert rows.loc[["AD", "CN"]].xs("auroc", level="metric")[["value", "low", "high"]].isna().all(axis=None)
    controls = table[table["diagnosis"] == "CN"]
    brier = rows.loc[("CN", "brier")]
    assert brier["value"] == pytest.approx(brier_score_loss(controls["target"], controls["prediction"], pos_label=1))
    assert brier["low"] < brier["value"] < brier["high"]
    men = score_predictions(table[table["sex"] == "M"], "classification", n_resamples=300)["auroc"]
    assert rows.loc[("M", "auroc"), ["value", "low", "high"]].tolist() == pytest.approx([men.value, men.low, men.high])


def test_few_subjects_are_flagged_and_an_auroc_keeps_its_closed_form():
    table = cohort("classification")
    table["scanner"] = np.where(table["subject_id"] < "c/009", "few", "many")
    table.loc[table["scanner"] == "few", "prediction"] = 0.1 + 0.8 * table["target"]  # perfect
    rows = subgroups(table, "classification", by=["scanner"], n_resamples=300).set_index("level")
    assert rows["few"].to_dict() == {"few": True, "many": False}
    assert rows["n_subjects"].to_dict() == {"few": 9, "many": 81}
    few = score_predictions(table[table["scanner"] == "few"], "classification", n_resamples=300)["auroc"]
    assert rows.loc["few", ["value", "low", "high"]].tolist() == [few.value, few.low, few.high]
    assert few.low < few.value == few.high == 1
    constant = subgroups(table.assign(prediction=0.5), "classification", by=["scanner"], n_resamples=300)
    assert (constant["value"] == 0.5).all()
    assert constant["low"].isna().all()


def test_replicates_count_a_scan_once():
    first, second = cohort("regression"), cohort("regression")
    second["prediction"] += 1.5
    table = pd.concat([first.assign(replicate=0), second.assign(replicate=1)])
    rows = subgroups(table, "regression", by=["sex"], n_resamples=300).set_index("level")
    parts = [t[t["sex"] == "F"] for t in (first, second)]
    assert rows.loc["F", "n_scans"] == len(parts[0])
    assert rows.loc["F", "value"] == pytest.approx(
        np.mean([(part["prediction"] - part["target"]).abs().mean() for part in parts])
    )


def test_columns_that_say_nothing_are_left_out():
    table = cohort("regression")
    table["scanner"], table["site"] = None, np.where(table["sex"] == "F", "unknown", None)
    rows = subgroups(table.drop(columns=["age_years", "diagnosis"]), "regression", n_resamples=99)
    assert rows[["subgroup", "level"]].to_numpy().tolist() == [["sex", "F"], ["sex", "M"], ["site", "unknown"]]
    assert subgroups(table, "regression", by=["cohort"], n_resamples=99).empty
    assert "few" in subgroups(table, "regression", by=["cohort"], n_resamples=99)


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="'auroc' is none of regression; choose from mae"):
        subgroups(cohort("regression"), "regression", metrics=["auroc"])
