"""Folds, and what is refused before anything is computed."""

from itertools import product

import pandas as pd
import pytest

from neuro_ssl.data.targets import Target
from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.folds import CrossValidation
from neuro_ssl.evaluating.plan import all_folds, check_trainings
from neuro_ssl.evaluating.predictions import Cell
from neuro_ssl.evaluating.targets import Task

SEX = Target(name="sex", target="sex", classes=("F", "M"))


def scans_of(test):
    """Six persons of each site and sex: three to train on, one to validate; of the last two those in `test` are so."""
    rows = [
        {"split": split, "site": site, "sex": sex}
        for site, sex in product("ABC", "FM")
        for split in ["train"] * 3 + ["val"] + ["test" if (site, sex) in test else "train"] * 2
    ]
    names = [f"own/{i}" for i in range(len(rows))]
    return pd.DataFrame(rows).assign(subject_id=names, scan_id=[name.replace("/", "_") for name in names])


def the_folds(scans, trained=False):
    tasks = [Task(SEX, ("task=sex",), {})]
    return all_folds(tasks, ["leave_site_out"], {"own": scans}, CrossValidation(), by_auroc=True, trained=trained)


def test_a_site_without_test_scans_has_no_fold():
    found = the_folds(scans_of([("A", "F"), ("A", "M"), ("C", "F"), ("C", "M")]))["sex", "leave_site_out"]
    assert [fold.number for fold in found] == [0, 2]


def test_a_test_split_of_one_class_serves_probes_and_no_training():
    scans = scans_of([("A", "F"), ("A", "M"), ("C", "F")])
    assert len(the_folds(scans)["sex", "leave_site_out"]) == 2
    with pytest.raises(InputError, match=r"leave_site_out \(split.site=C\): all test scans are F"):
        the_folds(scans, trained=True)


class _Volumes:
    path = "stores/own/paper_1mm-1a2b3c4d"

    def __init__(self, scans):
        self.manifest = scans


class _Model:
    name = "ours"

    def __init__(self, scans):
        self.volumes = {"own": _Volumes(scans)}


def test_trainings_take_the_scans_that_all_models_have():
    scans = scans_of([("A", "F"), ("A", "M")])
    cells = [Cell(Task(SEX, ("task=sex",), {}), "test", _Model(scans), "finetune")]
    check_trainings(cells, scans, [1.0])
    with pytest.raises(InputError, match=r"ours, finetune: .* holds 1 scans .* first own_0; .*exclude.csv"):
        check_trainings(cells, scans[1:], [1.0])


def test_a_share_of_the_labels_is_one_targets():
    scans = scans_of([("A", "F"), ("A", "M")])
    age = Target(name="age", target="age_years")
    both = [Task(target, ("task=multitask",), {}, place) for place, target in enumerate((SEX, age))]
    cells = [Cell(task, "test", _Model(scans), "finetune") for task in both]
    check_trainings(cells, scans, [1.0])
    with pytest.raises(InputError, match="train_fractions=.*sex, age are trained together"):
        check_trainings(cells, scans, [0.1, 1.0])
