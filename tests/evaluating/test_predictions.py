from pathlib import Path

import pandas as pd

from neuro_ssl.checkpoint import Weights
from neuro_ssl.evaluating.embeddings import held_out_features
from neuro_ssl.evaluating.folds import CrossValidation, folds
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.predictions import Cell, Predictor, Settings
from neuro_ssl.evaluating.targets import read_tasks


def test_a_person_with_two_ids_is_one_subject():
    """Else the bootstrap would count them twice, and a probe's inner folds would hold them on both sides."""
    scans = pd.DataFrame(
        {
            "scan_id": list("abcdef"),
            "subject_id": ["c/1", "c/2", "c/3", "c/4", "c/5", "c/6"],
            "person_id": [None, None, None, None, "c/6", "c/6"],
            "split": ["train", "train", "val", "test", "test", "test"],
            "mmse": [20.0, 30.0, 25.0, 24.0, 28.0, 28.0],
        }
    )
    node = {"target": "mmse", "standardise_target": True, "standardise_features": True}
    (task,) = read_tasks("regression", node, ("task=regression",))
    divided = {("mmse", "test"): folds("test", scans, task.target, CrossValidation())}
    settings = Settings((1.0,), (1.0,), (0,), (0,), (), {}, {})
    cell = Cell(task, "test", Model("none", "constant", {}), "constant")
    table = Predictor({"c": scans}, None, divided, settings, []).predict(cell)
    assert table.loc[table["split"] == "test", "subject_id"].tolist() == ["c/4", "c/6", "c/6"]
    assert table["prediction"].tolist() == [25.0] * 4


def test_what_is_trained_from_scratch_leaves_no_features():
    scans = pd.DataFrame({"scan_id": ["a"], "subject_id": ["c/1"], "split": ["test"]})
    models = [Model("ResNet-10 from scratch", "from_scratch", {}), Model("none", "constant", {})]
    assert held_out_features(models, {"c": scans}, lambda _: {}, pd.DataFrame(), []) is None


def test_who_learnt_from_labels_says_so():
    labelled, unlabelled = (
        Weights("w", Path("w"), {"covariates": names}, {"_target_": "neuro_ssl.encoders.sfcn.SFCN"}, {})
        for names in (["age_years"], [])
    )
    untrained = Weights.untrained(labelled.encoder, 0, labelled)
    record = {"stage": "downstream", "task": "sex", "config": {"task": {"target": "sex", "classes": ["F", "M"]}}}
    fine_tuned = Weights("w", Path("w"), record, labelled.encoder, {})
    models = (Model("m", "pretrained", {}, (weights,)) for weights in (labelled, unlabelled, untrained, fine_tuned))
    assert [model.learnt_from for model in models] == [["age_years"], [], [], ["sex"]]
