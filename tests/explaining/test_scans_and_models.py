"""Which scans are explained, and which of a model's outputs."""

import dataclasses

import pandas as pd
import pytest

from neuro_ssl.checkpoint import Weights
from neuro_ssl.errors import InputError
from neuro_ssl.explaining.models import ExplainedModel
from neuro_ssl.explaining.scans import choose_scans

AGE = {"target": "age_years", "unit": "years"}
SEX = {"target": "sex", "classes": ["F", "M"]}


def weights(path, *, cohort="c", task="brain_age", settings=AGE, stage="downstream"):
    record = {"stage": stage, "task": task, "dataset": {"cohort": cohort}, "config": {"task": settings}}
    return Weights("a_run", path, record, {}, {})


def test_the_runs_own_division(random_scans, tmp_path):
    """A fold's test split, where the run was of this cohort; else the split on file."""
    manifest = random_scans.manifest
    pd.DataFrame({"subject_id": ["c/0", "c/1", "c/8"], "split": ["test", "val", "train"]}).to_csv(
        tmp_path / "splits.csv", index=False
    )
    own = choose_scans(random_scans, weights(tmp_path), "test")
    assert own["subject_id"].tolist() == ["c/0", "c/0"]
    assert choose_scans(random_scans, weights(tmp_path), "val")["subject_id"].unique() == ["c/1"]
    on_file = choose_scans(random_scans, weights(tmp_path, cohort="another"), "test")
    pd.testing.assert_frame_equal(on_file, manifest[manifest["split"] == "test"])
    assert len(choose_scans(random_scans, weights(tmp_path), "all")) == len(manifest) == 13


def test_named_scans_and_fewer_of_them(random_scans, tmp_path):
    ids = random_scans.manifest["scan_id"]
    named = choose_scans(random_scans, weights(tmp_path), [ids[7], ids[2]])
    assert named["scan_id"].tolist() == [ids[2], ids[7]]
    five, seven = (set(choose_scans(random_scans, weights(tmp_path), "all", n)["scan_id"]) for n in (5, 7))
    assert len(five) == 5 and len(seven) == 7 and five < seven


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scans": "everything"}, "scans must be train, val, test, all or a list of ids, got 'everything'"),
        ({"scans": ["sub-1"]}, "scans: sub-1 is not in .*, whose ids look like 0"),
        ({"scans": []}, "no scan to explain with scans=..; choose others, or scans=all"),
        ({"scans": [7]}, "scans: 7 is not in"),
        ({"max_scans": 0}, "max_scans must be at least 1, got 0"),
    ],
)
def test_no_such_scans(random_scans, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        choose_scans(random_scans, weights(tmp_path), **options)


def test_an_excluded_scan_is_told_from_an_unknown_one(random_scans, tmp_path):
    scan = random_scans.manifest["scan_id"].iloc[4]
    rest = random_scans.manifest.drop(index=4).reset_index(drop=True)
    store = dataclasses.replace(random_scans, manifest=rest, excluded={scan: "motion"})
    with pytest.raises(InputError, match=f"scans: {scan} is left out by the cohort's exclude.csv .motion.; take"):
        choose_scans(store, weights(tmp_path), [scan])


def test_what_is_explained(tmp_path):
    age = ExplainedModel.of(weights(tmp_path))
    assert (age.output, age.unit, age.place) == ("predicted age (years)", "years", 0)
    several = weights(tmp_path, task="multitask", settings={"targets": {"brain_age": AGE, "sex": SEX}})
    stroke = ExplainedModel.of(
        weights(tmp_path, task="stroke_severity", settings={"target": "nihss", "unit": "points"})
    )
    assert stroke.output == "predicted NIHSS (points)"
    volume = ExplainedModel.of(weights(tmp_path, task="regression", settings={"target": "lesion_volume"}))
    assert volume.output == "predicted lesion volume"
    sex = ExplainedModel.of(several, "sex")
    assert (sex.output, sex.unit, sex.place) == ("logit of sex = M", "logit", 1)
    pretraining = ExplainedModel.of(weights(tmp_path, stage="pretraining"))
    assert "squared distance of the scan's features from their mean" in pretraining.output
    for target in (None, "alzheimers"):
        with pytest.raises(InputError, match=f"target={target}: weights=.* predict brain_age, sex; choose one"):
            ExplainedModel.of(several, target)
    with pytest.raises(InputError, match="target=sex: weights=.* have no head"):
        ExplainedModel.of(weights(tmp_path, stage="pretraining"), "sex")
