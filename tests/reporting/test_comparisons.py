import numpy as np
import pytest
from fake_runs import QUALITY, write_runs

from neuro_ssl.reporting.comparisons import compare
from neuro_ssl.reporting.runs import read_runs
from neuro_ssl.reporting.tables import group_by_task

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


def test_models_of_equal_seed_are_paired(tmp_path):
    _, comparisons = compared(tmp_path, "age", seeds=(0, 1))
    texts = [c.text for c in features(comparisons)]
    assert len(texts) == 2
    assert "seed 0" in texts[0]
    assert "seed 1" in texts[1]


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
