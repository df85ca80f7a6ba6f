"""Which sweeps are searches, and that a search leaves the test split alone until its choice is tested."""

import json
import shlex
import sys
from importlib import import_module
from types import SimpleNamespace

import hydra
import pandas as pd
import pytest
import yaml
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from neuro_ssl.callbacks import Progress
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.files import CONF_DIR
from neuro_ssl.sweeps import keeps_test_closed

RETURNED = []  # by the points of the last search


@pytest.fixture(scope="module", autouse=True)
def searcher():
    """Stands for Optuna's: another sweeper than Hydra's own, which reads what the runs return."""
    basic = Plugins.instance().class_name_to_class["hydra._internal.core_plugins.basic_sweeper.BasicSweeper"]

    class Searcher(basic):
        def sweep(self, arguments):
            jobs = super().sweep(arguments)
            RETURNED[:] = [job.return_value for batch in jobs for job in batch]
            return jobs

    Searcher.__module__, Searcher.__qualname__ = (
        "hydra_plugins.searcher",
        "Searcher",
    )  # where alone Hydra takes plugins from
    sys.modules[Searcher.__module__] = SimpleNamespace(Searcher=Searcher)
    Plugins.instance().register(Searcher)
    node = {"_target_": "hydra_plugins.searcher.Searcher", "max_batch_size": None, "params": None}
    ConfigStore.instance().store(group="hydra/sweeper", name="searcher", node=node)


@pytest.fixture
def reasons(monkeypatch, tmp_path):
    """Through Hydra's real command line: what `keeps_test_closed` says of each point."""

    def of(*arguments):
        found = []
        monkeypatch.setattr(sys, "argv", ["train", "-m", f"runs_dir={tmp_path}", *map(str, arguments)])
        monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)  # as in conftest

        @hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="train")
        def main(cfg):
            found.append(keeps_test_closed(cfg.open_test))

        main()
        return found

    return of


COMPARISONS = [
    ["task=sex,brain_age", "optimizer.learning_rate=0.01"],
    ["optimizer.learning_rate=0.01,0.02", "open_test=true"],
    ["+experiment=from_scratch,linear_probe", "seed=0,1"],
    ["encoder=resnet18,sfcn", "trainer.max_epochs=3"],
    ["split=kfold", "split.fold=0,1", "label_fraction=0.1,1.0", "label_seed=range(2)"],
    ["task=brain_age", "task.target=age_years,nihss"],
    ["+sweep=label_efficiency", "+experiment=linear_probe", "seed=0,1"],
    ["+sweep=[encoders,seeds]", "+experiment=from_scratch", "encoder=resnet18,sfcn"],
]
SEARCHES = [
    (["optimizer.learning_rate=0.01,0.02"], "optimizer.learning_rate"),
    (["encoder.width=8,16", "batch_size=2,4", "seed=0,1"], "batch_size, encoder.width"),
    (["views=none,standard"], "views"),
    (["task=sex,brain_age", "+trainer.accumulate_grad_batches=1,2"], "trainer.accumulate_grad_batches"),
    (["early_stopping_patience=choice(2,4)"], "early_stopping_patience"),
]


def first_are_fast(cases, n):
    """Each takes Hydra a second."""
    marks = [()] * n + [pytest.mark.slow] * (len(cases) - n)
    return [pytest.param(case, marks=mark, id=str(case)) for case, mark in zip(cases, marks, strict=True)]


@pytest.mark.parametrize("arguments", first_are_fast(COMPARISONS, 2))
def test_a_comparison_opens_the_test_split(reasons, arguments):
    found = reasons(*arguments)
    assert found == [None] * len(found)
    assert len(found) > 1


@pytest.mark.parametrize("case", first_are_fast(SEARCHES, 1))
def test_a_search_does_not(reasons, case):
    arguments, tuned = case
    found = reasons(*arguments)
    assert set(found) == {f"a sweep over {tuned} is a search"}
    assert len(found) > 1


@pytest.mark.slow
def test_a_recipe_may_name_what_is_swept(reasons, tmp_path):
    (tmp_path / "experiment").mkdir()
    recipe = "# @package _global_\nhydra: {sweeper: {params: {optimizer.weight_decay: '0,1', seed: '0,1'}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(recipe)
    found = reasons("+experiment=mine", "--config-dir", tmp_path)
    assert found == ["a sweep over optimizer.weight_decay is a search"] * 4
    assert reasons("+experiment=mine", "optimizer.weight_decay=0", "--config-dir", tmp_path) == [None] * 2


@pytest.mark.slow
def test_neither_does_what_is_told_not_to(reasons):
    assert reasons("seed=0,1", "open_test=false") == ["open_test=false"] * 2


@pytest.mark.slow
def test_where_the_sweep_left_no_record_it_is_taken_for_a_search(reasons, tmp_path):
    runs = f"runs_dir={tmp_path / 'a'},{tmp_path / 'b'}"
    assert reasons(runs, "task=sex") == [None] * 2
    assert reasons(runs, "optimizer.learning_rate=0.1") == ["a sweep over optimizer.learning_rate is a search"] * 2


@pytest.fixture
def probe(random_scans, tmp_path):
    """A linear probe of an untrained encoder: as fast as a run can be."""
    return [
        *("+experiment=linear_probe", "encoder.width=8", "trainer.max_epochs=1", "batch_size=4", "num_workers=0"),
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={random_scans.path.parents[2]}"),
        *("logger=csv", "strategy=cpu", f"runs_dir={tmp_path / 'runs'}"),
    ]


def record_of(run):
    return yaml.safe_load((run / "run.yaml").read_text())


def test_a_search_is_scored_on_validation_and_its_choice_is_tested_without_training_again(
    probe, random_scans, tmp_path, command, monkeypatch, capsys
):
    split_of, read = dict(zip(random_scans.manifest["volume"], random_scans.manifest["split"], strict=True)), set()
    original = VolumeStore.read
    monkeypatch.setattr(VolumeStore, "read", lambda self, volume: read.add(split_of[volume]) or original(self, volume))
    command("train", "-m", *probe, "hydra/sweeper=searcher", "optimizer.learning_rate=0.01,0.02")
    out = capsys.readouterr().out
    assert out.count("the test split stays closed: hydra/sweeper=searcher searches") == 2
    assert out.count("VALIDATION scores, 3 validation scans") == 2
    assert "test scans" not in out
    assert read == {"train", "val"}
    runs = sorted((tmp_path / "runs").glob("linear_probe-*"), key=lambda run: record_of(run)["started"])
    for run in runs:
        assert not (run / "results.json").exists()
        assert set(pd.read_parquet(run / "predictions.parquet")["split"]) == {"val"}
        assert not pd.read_csv(run / "metrics.csv")["metric"].str.startswith("test/").any()
        assert record_of(run)["test_opened"] == []
    best = {run: pd.read_csv(run / "metrics.csv").query("metric == 'val/loss'")["value"].min() for run in runs}
    assert sorted(RETURNED) == pytest.approx(sorted(best.values()), rel=1e-6)
    assert {record_of(run)["validation"]["metric"] for run in runs} == {"val/loss"}

    (sweep,) = (tmp_path / "runs" / ".sweeps").iterdir()
    command("report", f"runs_dir={tmp_path / 'runs'}", f"runs=['{sweep}']")
    assert "Left out: 2 runs (the test split stayed closed)" in capsys.readouterr().out
    page = (tmp_path / "runs" / "report" / "report.html").read_text()
    assert "its command without -m, with open_test=true, tests a run" in page
    assert all(f"<li>{run.name}</li>" in page for run in runs)

    command("train", *probe, "optimizer.learning_rate=0.02", "open_test=false")  # shown again, as it was
    out = capsys.readouterr().out
    assert "already finished" in out
    assert "VALIDATION scores" in out
    (chosen,) = (run for run in runs if record_of(run)["config"]["optimizer"]["learning_rate"] == 0.02)
    before = {name: (chosen / "checkpoints" / name).read_bytes() for name in ("best.ckpt", "last.ckpt")}
    history = (chosen / "metrics.csv").read_text()
    command("train", *probe, "optimizer.learning_rate=0.02")
    assert "3 test scans" in capsys.readouterr().out
    assert before == {name: (chosen / "checkpoints" / name).read_bytes() for name in before}
    assert (chosen / "metrics.csv").read_text().startswith(history)
    record, results = record_of(chosen), json.loads((chosen / "results.json").read_text())
    assert record["status"] == "finished"
    assert record["test_opened"] == results["test_opened"]
    assert len(results["test_opened"]) == 1
    command("train", *probe, "optimizer.learning_rate=0.02", "open_test=false")  # as a search would find it
    out = capsys.readouterr().out
    assert "VALIDATION scores" in out
    assert "test scans" not in out

    # It is what a run that was tested at once says.
    command("train", *probe, "optimizer.learning_rate=0.02", f"runs_dir={tmp_path / 'at once'}")
    (at_once,) = (tmp_path / "at once").glob("linear_probe-*")
    assert at_once.name == chosen.name
    expected = json.loads((at_once / "results.json").read_text())
    assert results | {"test_opened": None} == expected | {"test_opened": None}
    pd.testing.assert_frame_equal(*(pd.read_parquet(run / "predictions.parquet") for run in (chosen, at_once)))


def test_a_sweep_ends_with_its_table_whose_choice_is_then_tested(probe, tmp_path, command, capsys):
    """One point of three fails: the others run, the exit status says so, and the table has all."""
    with pytest.raises(SystemExit) as ended:
        command("train", "-m", *probe, "optimizer.learning_rate=0.01,-1,0.1", "seed=0,1")
    assert ended.value.code == 1
    shown, errors = capsys.readouterr()
    assert "error: 2 of 6 points of the sweep failed, see above" in errors
    failed = "failed: optimizer.learning_rate must be positive, got -1 (optimizer.learning_rate=-1 seed=0; optimizer."
    assert failed in " ".join(shown.split())

    scores = {}
    for run in (tmp_path / "runs").glob("linear_probe-*"):
        best = pd.read_csv(run / "metrics.csv").query("metric == 'val/loss'")["value"].min()
        scores.setdefault(record_of(run)["config"]["optimizer"]["learning_rate"], []).append(best)
    (file,) = (tmp_path / "runs" / ".sweeps").glob("*/sweep.csv")
    table = pd.read_csv(file).query("status == 'finished'").set_index("optimizer.learning_rate")
    assert {rate: row.validation for rate, row in table.iterrows()} == pytest.approx(
        {rate: sum(values) / 2 for rate, values in scores.items()}, rel=1e-6
    )
    chosen = min(scores, key=lambda rate: sum(scores[rate]))
    assert list(table.index[table["best"]]) == [chosen]
    assert not list((tmp_path / "runs").glob("*/results.json"))

    line = shown.partition("To test the best:\n")[2].partition("\n")[0]
    command("train", *shlex.split(line)[3:])
    tested = [file.parent for file in (tmp_path / "runs").glob("*/results.json")]
    assert {record_of(run)["config"]["optimizer"]["learning_rate"] for run in tested} == {chosen}
    assert len(tested) == 2
    assert "test MAE (years)" in capsys.readouterr().out


def test_a_search_among_pretraining_runs_is_refused(probe, command, capsys):
    probe[0] = "+experiment=simclr_pretrain"
    with pytest.raises(SystemExit):
        command("train", "-m", *probe, "hydra/sweeper=searcher", "seed=0,1")
    error = capsys.readouterr().err
    assert error.startswith("error: hydra/sweeper=searcher searches by a score, and pretraining has none")


def test_a_search_is_refused_the_test_split(probe, command, capsys):
    with pytest.raises(SystemExit):
        command("train", "-m", *probe, "hydra/sweeper=searcher", "seed=0,1", "open_test=true")
    error = capsys.readouterr().err
    assert "error: open_test=true: a search (hydra/sweeper=searcher) chooses by validation scores" in error
    assert "without -m, which tests it" in error


class Killed(BaseException):
    """Stands for kill -9: nothing of ours or of Lightning's catches it to tidy up."""


def test_a_test_that_was_interrupted_is_a_second_opening_and_reported(probe, tmp_path, command, monkeypatch, capsys):
    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_predict_end", killed)
        with pytest.raises(Killed):
            command("train", *probe)
    (run,) = (tmp_path / "runs").glob("linear_probe-*")
    assert len(record_of(run)["test_opened"]) == 1
    command("train", *probe, "open_test=false")  # what was opened before has no scores, and none are made of it now
    assert "n_val_scans" in json.loads((run / "validation.json").read_text())
    assert not (run / "results.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(import_module("neuro_ssl.tracking.tracked"), "finish_wandb", killed)
        with pytest.raises(Killed):
            command("train", *probe)
    command("train", *probe)  # not a third time: it was only not uploaded
    assert len(record_of(run)["test_opened"]) == 2
    assert "n_test_scans" in json.loads((run / "results.json").read_text())
    command("report", f"runs_dir={tmp_path / 'runs'}")
    assert "the test split was opened 2 times" in capsys.readouterr().out
    assert "the test split was opened 2 times" in (tmp_path / "runs" / "report" / "report.html").read_text()
