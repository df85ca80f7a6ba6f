"""A run keeps its name when the code learns something new that the run doesn't use."""

import pytest

from neuro_ssl.run_names import run_name


def name(**settings):
    nodes = {key: {} for key in ("trainer", "encoder", "optimizer", "dataset", "task", "split")}
    return run_name("sex", {"name": "x", **nodes, **settings}, {}, None)


SITE = {"site": "Guys", "column": "site"}
SEX = {"target": "sex", "classes": ["F", "M"]}
PAPERS = {"cohort": "ixi", "metric": "auroc", "fine_tuned": 0.991}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"early_stopping_patience": None}),
        ({}, {"optimizer": {"layer_decay": 1.0}}),
        ({"split": SITE}, {"split": SITE | {"tested": "all"}}),
        (
            {"trainer": {"sync_batchnorm": False}},
            {"trainer": {"sync_batchnorm": True, "strategy": "ddp", "devices": 4}},
        ),
        ({"task": SEX}, {"task": SEX | {"reference": PAPERS}}),
        ({"task": {"targets": {"sex": SEX}}}, {"task": {"targets": {"sex": SEX | {"reference": PAPERS}}}}),
    ],
)
def test_what_changes_nothing_is_not_in_the_name(before, now):
    assert name(**before) == name(**now)


def test_what_changes_something_is():
    changes = [
        {},
        {"early_stopping_patience": 1},
        {"optimizer": {"layer_decay": 0.75}},
        {"split": SITE},
        {"split": SITE | {"tested": "test_split"}},
        {"task": {"targets": {"sex": SEX}}},
        {"task": {"targets": {"sex": SEX | {"weight": 2.0}}}},
    ]
    assert len({name(**change) for change in changes}) == len(changes)
