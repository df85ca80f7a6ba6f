"""Tables of sweeps: folded over seeds, ranked by validation, with what is missing and why."""

import json
import shlex
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_sweeps import SCORES, SWEEP, note, write_run, write_sweep
from scipy import stats

from neuro_ssl.errors import InputError
from neuro_ssl.points import Point
from neuro_ssl.reporting.page import render
from neuro_ssl.reporting.sources import find
from neuro_ssl.reporting.sweeps.reading import all_sweeps, read_sweep
from neuro_ssl.reporting.sweeps.section import sweep_sections
from neuro_ssl.reporting.sweeps.table import tables
from neuro_ssl.reporting.sweeps.text import conclude


def interval(values):
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - half, np.mean(values) + half


def test_rows_are_means_over_seeds_and_the_validation_split_alone_ranks_them(tmp_path, capsys):
    sweep = write_sweep(tmp_path)
    conclude(sweep)
    shown = capsys.readouterr().out
    table = pd.read_csv(sweep / "sweep.csv", dtype={"optimizer.learning_rate": str})
    rows = table[table["status"] == "finished"]
    assert list(rows["optimizer.learning_rate"]) == ["0.003", "0.01", "0.001"]
    assert list(rows["best"]) == [True, False, False]
    assert list(rows["n_seeds"]) == [3, 3, 2]
    for row in rows.itertuples():
        validation, test = SCORES[row[rows.columns.get_loc("optimizer.learning_rate") + 1]]
        assert (row.validation, row.test) == pytest.approx((np.mean(validation), np.mean(test)))
        expected = interval(validation) if len(validation) > 2 else (np.nan, np.nan)
        assert (row.validation_low, row.validation_high) == pytest.approx(expected, nan_ok=True)
        expected = interval(test) if len(test) > 2 else (np.nan, np.nan)
        assert (row.test_low, row.test_high) == pytest.approx(expected, nan_ok=True)
    low, high = interval(SCORES["0.003"][0])
    lines = shown.splitlines()
    assert f"sweep {SWEEP}: 10 points, 8 finished, 1 not finished, 1 failed" in lines
    (best,) = (line.split() for line in lines if line.startswith("  *"))
    assert best[:6] == ["*", "0.003", "3", "0.4133", f"[{low:.4g},", f"{high:.4g}]"]
    assert any(line.split()[:4] == ["0.001", "2", "of", "3"] for line in lines)
    assert "failed: the loss is nan at step 3 (seed=0 optimizer.learning_rate=1.0)" in lines
    assert "not finished: the same command goes on (seed=2 optimizer.learning_rate=0.001)" in lines
    assert max(map(len, lines[:-1])) <= 100
    assert "To test" not in shown  # it is tested
    text = (sweep / "sweep.md").read_text()
    assert f"0.4133 [{low:.4g}, {high:.4g}]" in text
    assert "secret" not in shown + text + (sweep / "sweep.csv").read_text()


def test_a_search_ends_with_the_command_that_tests_its_choice(tmp_path, capsys):
    conclude(write_sweep(tmp_path, tested=False))
    shown = capsys.readouterr().out
    assert "MAE" not in shown
    line = shown.partition("To test the best:\n")[2].partition("\n")[0]
    command = ["-m", "+experiment=from_scratch", "dataset.root=/data/secret/cohort", "seed=0,1,2"]
    assert shlex.split(line) == ["python", "-m", "neuro_ssl.train", *command, "optimizer.learning_rate=0.003"]

    single = {rate: tuple(values[:1] for values in both) for rate, both in SCORES.items()}
    conclude(write_sweep(tmp_path / "single", tested=False, scores=single))
    shown = capsys.readouterr().out
    line = shown.partition("To test the best:\n")[2].partition("\n")[0]
    assert "-m" not in shlex.split(line)[3:]
    assert shlex.split(line)[-1] == "optimizer.learning_rate=0.003"


def test_of_one_run_the_test_score_has_its_interval_over_subjects(tmp_path):
    sweep = tmp_path / ".sweeps" / SWEEP
    for number, rate in enumerate(("0.1", "0.2")):
        note(sweep, number, rate, 0, status="finished", run=write_run(tmp_path / rate, 0.5 + number, 5.0, 0))
    (table,) = tables(read_sweep(sweep))
    assert [(row.test.value, row.test.low, row.test.high) for row in table.rows] == [(5.0, 4.5, 5.7)] * 2
    assert all(np.isnan(row.validation.low) for row in table.rows)


def test_pretraining_without_a_score_ends_with_its_second_stage(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "runs" / ".sweeps" / SWEEP
    for number, temperature in enumerate(("0.1", "0.5")):
        run = write_run(tmp_path / "runs" / f"simclr_pretrain-{number}", 0, None, 0)
        record = yaml.safe_load((run / "run.yaml").read_text()) | {"stage": "pretraining", "task": "simclr"}
        del record["validation"], record["test_opened"]
        (run / "run.yaml").write_text(yaml.safe_dump(record))
        overrides = ["+sweep=simclr_temperature", f"task.temperature={temperature}", "dataset=csv", "grid=4mm"]
        Point(sweep, number, overrides).note(status="finished", run=run)
    conclude(sweep)
    shown = capsys.readouterr().out
    assert "simclr_pretrain-0" in shown
    line = shown.partition("To compare the weights, by validation:\n")[2].partition("\n")[0]
    weights = "weights=runs/simclr_pretrain-0,runs/simclr_pretrain-1"
    probes = ["-m", "+experiment=linear_probe", "task=brain_age", "dataset=csv", "grid=4mm", "open_test=false", weights]
    assert shlex.split(line)[3:] == probes


def write_probes(folder, pretrained):
    """A sweep of probes, whose validation loss falls with each of these settings of pretraining."""
    for number, config in enumerate(pretrained):
        weights = folder / f"simclr_pretrain-{number}"
        weights.mkdir()
        (weights / "run.yaml").write_text(yaml.safe_dump({"config": config}))
        run = write_run(folder / f"probe-{number}", 0.5 - number / 10, None, 0)
        Point(folder / "s", number, [f"weights={weights}", "open_test=false"]).note(status="finished", run=run)


def test_weights_of_a_sweep_are_told_apart_by_its_settings_and_its_seeds_fold(tmp_path, capsys):
    settings = [{"seed": seed, "task": {"temperature": t}} for t in (0.1, 0.5) for seed in (0, 1)]
    write_probes(tmp_path, settings)
    conclude(tmp_path / "s")
    shown = capsys.readouterr().out
    heading, *rows = (line.split() for line in shown.splitlines() if line.startswith("  ") and "python" not in line)
    assert heading == ["best", "weights:", "task.temperature", "seeds", "validation"]
    assert rows == [["*", "0.5", "2", "0.25"], ["0.1", "2", "0.45"]]
    best = ",".join(str(tmp_path / f"simclr_pretrain-{i}") for i in (2, 3))
    assert f"\n  python -m neuro_ssl.train -m weights={best}\n" in shown


@pytest.mark.parametrize(
    "settings",
    [[{"seed": 0}, {"seed": 0}], [{"encoder": dict.fromkeys("abcd", 1)}, {"encoder": dict.fromkeys("abcd", 2)}]],
    ids=["nothing that differs", "too much that differs"],
)
def test_else_weights_have_their_names(tmp_path, capsys, settings):
    write_probes(tmp_path, settings)
    conclude(tmp_path / "s")
    assert ["*", "simclr_pretrain-1", "1", "0.4"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(("cohorts", "shown"), [("cc", 1), ("cd", 0)], ids=["to compare", "nothing to compare"])
def test_a_page_of_all_runs_leaves_out_sweeps_that_compare_nothing(tmp_path, cohorts, shown):
    for number, cohort in enumerate(cohorts):
        run = write_run(tmp_path / f"run-{number}", 0.5, None, 0)
        record = yaml.safe_load((run / "run.yaml").read_text())
        record["dataset"]["cohort"] = cohort
        (run / "run.yaml").write_text(yaml.safe_dump(record))
        Point(tmp_path / "s", number, [f"dataset={cohort}", f"seed={number}"]).note(status="finished", run=run)
    assert len(all_sweeps([tmp_path / "s"])) == shown


def test_tasks_and_metrics_are_not_ranked_with_each_other(tmp_path):
    auroc = {"a": 0.7, "b": 0.8}
    for number, (name, value) in enumerate(auroc.items()):
        run = write_run(tmp_path / name, 0, None, 0)
        record = yaml.safe_load((run / "run.yaml").read_text())
        record |= {"task": "sex", "validation": {"metric": "val/auroc", "value": value}}
        (run / "run.yaml").write_text(yaml.safe_dump(record))
        Point(tmp_path / "s", number, ["task=sex", f"views={name}"]).note(status="finished", run=run)
    run = write_run(tmp_path / "age", 0.1, None, 0)
    Point(tmp_path / "s", 2, ["task=brain_age", "views=a"]).note(status="finished", run=run)
    sex, age = tables(read_sweep(tmp_path / "s"))
    assert [row.setting for row in sex.rows] == [("sex", "b"), ("sex", "a")]
    assert [row.setting for row in age.rows] == [("brain_age", "a")]
    assert age.best is None


def test_the_page_shows_the_latest_of_one_command_and_a_named_one(tmp_path):
    write_sweep(tmp_path, "2026-01-01_00-00-00")
    write_sweep(tmp_path)
    write_sweep(tmp_path, "2026-01-03_00-00-00", command=("another",))
    preprocessing = tmp_path / ".sweeps" / "2026-01-04_00-00-00"
    for shard in range(2):
        Point(preprocessing, shard, [f"shard={shard}"]).note(status="finished")
    shown = [sweep.folder.name for sweep in all_sweeps(find(tmp_path).sweeps)]
    assert shown == [SWEEP, "2026-01-03_00-00-00"]
    named = find(tmp_path, [".sweeps/2026-01-01_00-00-00"])
    assert [folder.name for folder in named.sweeps] == ["2026-01-01_00-00-00"]
    assert len(named.runs) == 9

    sections = sweep_sections([read_sweep(named.sweeps[0])])
    page = render(sections, datetime.now())
    assert "the loss is nan at step 3" in page
    assert "<td>0.4133<small>[" in page
    assert sections[0].simulated == ["c"]
    assert "secret" not in page and str(tmp_path) not in page


def test_pages_that_are_passed_on_have_reasons_without_paths_and_ids(tmp_path, capsys):
    sweep = write_sweep(tmp_path)
    reasons = {
        "the loss is nan at step 2, scans sub-01_ses-01, p7: lower it": "the loss is nan at step 2, scans …",
        "/data/secret/x.b2nd: Input/output error; mount it again": "… … error; mount it again",
        "leakage: weights=runs/a were trained on 2 of the 9 test subjects: c/p7": "leakage: … were trained on 2",
    }
    for number, reason in enumerate(reasons, start=20):
        note(sweep, number, f"{number}", 0, status="failed", reason=reason)
    section = sweep_sections([read_sweep(sweep)])[0]
    page = render([section], datetime.now())
    for text in (page, *section.files.values()):
        assert all(told in text for told in reasons.values())
        assert not any(secret in text for secret in ("sub-01", "p7", "secret", "runs/a"))
    conclude(sweep)
    assert "sub-01_ses-01, p7" in capsys.readouterr().out
    assert "/data/secret/x.b2nd" in (sweep / "sweep.csv").read_text()


def test_a_point_that_finished_later_is_finished_and_one_whose_run_is_gone_is_not(tmp_path):
    sweep = write_sweep(tmp_path)
    killed = tmp_path / "from_scratch-brain_age-killed"
    write_run(killed, 0.5, 5.0, 2)
    (tmp_path / "from_scratch-brain_age-0.01-0" / "run.yaml").unlink()
    statuses = [outcome.status for outcome in read_sweep(sweep).outcomes]
    assert statuses == ["not finished", *["finished"] * 8, "failed"]


def test_a_damaged_file_is_named(tmp_path):
    sweep = write_sweep(tmp_path)
    file = tmp_path / "from_scratch-brain_age-0.01-0" / "results.json"
    file.write_text(json.dumps({"kind": "regression"}))
    with pytest.raises(InputError, match=rf"{file} is damaged"):
        read_sweep(sweep)
