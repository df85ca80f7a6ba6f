import numpy as np
import pytest
from fake_runs import QUALITY, write_runs

from neuro_ssl.evaluation import comparisons as tests
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.runs.comparisons import Comparison, compare, significance
from neuro_ssl.reporting.runs.models import group_by_task
from neuro_ssl.reporting.runs.reading import read_runs
from neuro_ssl.reporting.runs.tidy import tidy_comparisons

PROBES = (("linear_probe", "pretrained"), ("linear_probe", "untrained"))


def compared(tmp_path, task, **changes):
    write_runs(tmp_path, tasks=(task,), **changes)
    (group,) = group_by_task(read_runs(tmp_path).downstream)
    return group, compare(group)


def features(comparisons):
    return [c for c in comparisons if c.question == "Pretrained or untrained features?"]


@pytest.mark.parametrize("task", ["age", "sex"])
@pytest.mark.parametrize("flipped", [False, True])
def test_the_better_features_win_in_words_and_numbers(tmp_path, task, flipped):
    good, bad = (4.0, 0.5), (25.0, 8.0)
    quality = dict(zip(PROBES, (bad, good) if flipped else (good, bad), strict=True))
    group, comparisons = compared(tmp_path, task, quality=quality)
    (result,) = features(comparisons)
    winner, loser = ("untrained", "pretrained") if flipped else ("pretrained", "untrained")
    assert result.verdict == ("second" if flipped else "first")
    assert result.text.startswith(f"The {winner} encoder's frozen features did better than the {loser} encoder's")
    by_model = {run.results.initialisation: run for run in group.runs}
    values = {k: run.results.scores[group.primary].value for k, run in by_model.items()}
    assert f"{values[winner]:.2f} against {values[loser]:.2f}" in result.text
    assert result.difference.value == pytest.approx(values["pretrained"] - values["untrained"])
    if task == "age":
        errors = {k: np.abs(r.predictions["target"] - r.predictions["prediction"]) for k, r in by_model.items()}
        assert result.difference.value == pytest.approx((errors["pretrained"] - errors["untrained"]).mean())


def test_equal_models_are_no_significant_difference(tmp_path):
    _, comparisons = compared(tmp_path, "age", quality=dict.fromkeys(PROBES, (8.0, 1.0)))
    (result,) = features(comparisons)
    assert result.verdict == "undecided"
    assert result.text.startswith("No significant difference")
    assert result.difference.low < 0 < result.difference.high


def test_of_several_seeds_the_means_are_compared_over_the_seeds_that_both_sides_have(tmp_path):
    write_runs(tmp_path, tasks=("age",), seeds=(0, 1), quality=dict(zip(PROBES, ((4.0, 1), (25.0, 1)), strict=True)))
    write_runs(tmp_path / "more", tasks=("age",), seeds=(2,), quality={PROBES[0]: (4.0, 1)})
    (group,) = group_by_task(read_runs(tmp_path).downstream)
    assert [(model.name, model.seeds) for model in group.models] == [
        ("Linear probe, pretrained", [0, 1, 2]),
        ("Linear probe, untrained", [0, 1]),
    ]
    comparisons = compare(group)
    (result,) = features(comparisons)
    assert "MAE, mean of 2 seeds" in result.text
    errors = {
        kind: np.mean([(r.predictions["target"] - r.predictions["prediction"]).abs().mean() for r in group.runs[runs]])
        for kind, runs in {"pretrained": slice(0, 2), "untrained": slice(3, 5)}.items()
    }
    assert result.difference.value == pytest.approx(errors["pretrained"] - errors["untrained"])
    assert significance(comparisons) == {"Linear probe, pretrained": "< 0.001 * (Linear probe, untrained)"}


def test_p_values_are_those_of_the_tests_and_corrected_together(tmp_path):
    group, comparisons = compared(tmp_path, "sex")
    tested = [c for c in comparisons if c.second]
    assert [(c.first, c.second, c.test) for c in tested] == [
        ("Linear probe, pretrained", "Linear probe, untrained", "clustered DeLong"),
        ("Fine-tuned", "From scratch", "clustered DeLong"),
    ]
    predictions = {model.name: model.runs[0].predictions for model in group.models}
    p = [tests.compare(predictions[c.first], predictions[c.second], "classification", "auroc").p for c in tested]
    assert [c.p for c in tested] == pytest.approx(p)
    low, high = 2 * min(p), max(*p, 2 * min(p))  # Holm's correction of two
    assert sorted(c.p_holm for c in tested) == pytest.approx([low, high])
    table = tidy_comparisons([group], [comparisons])
    assert table["p_holm"].tolist() == [c.p_holm for c in tested]


def test_a_missing_counterpart_is_said(tmp_path):
    _, comparisons = compared(tmp_path, "age", quality={PROBES[0]: (8.0, 1.0)})
    (result,) = features(comparisons)
    assert result.text.startswith("Not compared")


@pytest.mark.parametrize(("task", "bad"), [("age", (60.0, 0)), ("sex", (0, 100.0))])
def test_baseline_is_beaten_by_good_models_alone(tmp_path, task, bad):
    _, comparisons = compared(tmp_path, task, quality=QUALITY | {PROBES[1]: bad})
    lines = comparisons[0].text.splitlines()
    assert lines[0].startswith("Fine-tuned: yes, difference ")
    assert lines[-1].startswith("Linear probe, untrained: no")  # "no, worse" or "not shown"
    assert comparisons[0].verdict == "undecided"  # as not all are better


@pytest.mark.parametrize(("p_holm", "style"), [(0.04, "first"), (0.06, "undecided"), (float("nan"), "first")])
def test_a_verdict_has_the_colour_of_what_holds_after_correction(p_holm, style):
    assert Comparison("?", "first", "…", Score(1, 0.1, 2), "a", "b", 0.03, p_holm).style == style
