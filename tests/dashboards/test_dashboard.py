"""The workspace and the report: they show what runs log, in the form that wandb-workspaces gives to the app."""

import importlib
import json
import re

import pandas as pd
import pytest
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports import v2 as wr

from neuro_ssl.callbacks import Throughput
from neuro_ssl.dashboards.charts import DOWNSTREAM
from neuro_ssl.evaluation.representation import objectives
from neuro_ssl.evaluation.scores import score_predictions
from neuro_ssl.run import RunDirectory
from neuro_ssl.tasks.results import as_metrics
from neuro_ssl.tracking.description import summary_of
from tests.callbacks.training import train
from tests.conftest import run_command

TINY_VIT = ["encoder.width=24", "encoder.n_heads=2", "encoder.n_layers=1", "encoder.patch_size=[5,6,6]"]
RUNS = [
    ("simclr_mae_pretrain", "representation_every_epochs=1", *TINY_VIT),
    ("from_scratch", "task=sex", "encoder.width=8"),
    ("from_scratch", "task=brain_age", "encoder.width=8"),
]
SEVERAL = next(chart.pattern for chart in DOWNSTREAM if chart.pattern)  # tests/callbacks/test_outcome.py has such a run
SECTIONS = ["Pretraining health", "Downstream", "Sweeps", "Media"]


@pytest.fixture(scope="module")
def logged(random_scans, tmp_path_factory):
    """What tiny runs give their tracker; and what they would on a GPU, or with more people."""
    folder = tmp_path_factory.mktemp("logged")
    data = ["dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir='{random_scans.path.parents[2]}'"]
    how = ["strategy=cpu", "num_workers=0", "batch_size=4", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"]
    tracker = ["logger=csv", "+logger.recorder._target_=tests.dashboards.recorder.Recorder"]
    for recipe, *rest in RUNS:
        run_command("train", f"+experiment={recipe}", *rest, *data, *how, *tracker, f"runs_dir={folder}")
    noted = [json.loads(line) for file in folder.glob("*/recorded.jsonl") for line in file.read_text().splitlines()]
    names = {kind: {name for this, name in noted if this == kind} for kind in ("metric", "picture", "key")}
    for run in map(RunDirectory, folder.iterdir()):
        names["metric"] |= set(summary_of(run.path, run.record, "finished"))
    (folder / "gpu").mkdir()
    train(random_scans, folder / "gpu", throughput=Throughput(peak=1e10), log_every_n_steps=4, n_epochs=1)
    names["metric"] |= set(pd.read_csv(folder / "gpu" / "metrics.csv")["metric"])
    people = pd.DataFrame({"subject": range(40), "age_years": range(40), "sex": ["F", "M"] * 20})
    people["diagnosis"] = ["CN", "CN", "AD", "AD"] * 10
    names["metric"] |= {f"representation/{name}" for name in objectives(people, people)}
    ages = pd.DataFrame({"subject_id": map(str, range(40)), "target": range(40), "prediction": range(0, 80, 2)})
    names["metric"] |= set(
        as_metrics({"scores": {k: vars(v) for k, v in score_predictions(ages, "regression").items()}})
    )
    return names


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the command writes without a key (conftest.py keeps W&B offline)."""
    folder = tmp_path_factory.mktemp("dashboard")

    def run(*arguments):
        run_command("dashboard", f"output={folder}", *arguments)
        return [json.loads((folder / f"{name}.json").read_text()) for name in ("workspace", "report")]

    return run


def panels(node):
    """All panels of a specification."""
    if isinstance(node, dict):
        if "viewType" in node:
            yield node
        node = list(node.values())
    for one in node if isinstance(node, list) else ():
        yield from panels(one)


def asked_of_runs(panel):
    """What a panel shows: metrics, patterns of metrics, pictures, keys of the configuration."""
    config = panel["config"]
    metrics, keys = set(config.get("metrics", [])), set()
    axes = [column["accessor"] for column in config.get("columns", [])]
    if panel["viewType"] == "Scatter Plot":
        axes += [config["xAxis"], config["yAxis"]]
    for axis in axes:
        where, name = axis.split(":", 1)
        first, *rest = name.split(".value")
        metrics |= {name} if where == "summary" else set()
        keys |= {first + "".join(rest)} if where == "config" else set()
    metrics |= {config["targetKey"]} if "targetKey" in config else set()
    return metrics, {config["metricRegex"]} if "metricRegex" in config else set(), config.get("mediaKeys", []), keys


def assert_logged(specification, logged):
    shown = list(panels(specification))
    for panel in shown:
        metrics, patterns, pictures, keys = asked_of_runs(panel)
        assert metrics or patterns or pictures, panel
        assert metrics <= logged["metric"]
        assert keys <= logged["key"]
        for pattern in patterns - {SEVERAL}:
            assert any(re.search(pattern, name) for name in logged["metric"]), pattern
    return shown


def test_every_panel_shows_what_runs_log(logged, written):
    for specification in written():
        shown = assert_logged(specification, logged)
        assert len(shown) > 30
        pictures = {key for panel in shown for key in panel["config"].get("mediaKeys", [])}
        assert {"test/roc", "test/predicted_vs_true"} <= pictures
        assert {key.replace("val/", "test/") for key in pictures} == logged["picture"]


def test_so_do_the_columns_of_the_table_of_runs(logged, written):
    workspace, _ = written()
    columns = workspace["spec"]["section"]["runSets"][0]["runFeed"]["columnOrder"]
    assert columns[0] == "run:displayName"
    scores = {column.removeprefix("summary:") for column in columns if column.startswith("summary:")}
    assert scores
    assert scores <= logged["metric"]


def test_a_misspelt_name_would_be_found(logged, written):
    for wrong in ("label_efficiency=[test/auc]", "sweeps.downstream.parameters=[optimizer.learning_rat]"):
        workspace, report = written(wrong)
        for specification in (workspace, report):
            with pytest.raises(AssertionError):
                assert_logged(specification, logged)


def test_sections_and_words(written):
    workspace, report = written()
    bank = workspace["spec"]["section"]["panelBankConfig"]
    assert [section["name"] for section in bank["sections"]] == SECTIONS
    assert all(section["isOpen"] and section["panels"] for section in bank["sections"])
    kinds = {panel["viewType"] for panel in panels(bank["sections"][2])}
    assert kinds == {"Parallel Coordinates Plot", "Parameter Importance", "Scatter Plot"}
    blocks = report["spec"]["blocks"]
    assert [b["children"][0]["text"] for b in blocks if b["type"] == "heading" and b["level"] == 1] == SECTIONS
    words, drawn = json.dumps(blocks), list(panels(bank))
    titles = [panel["config"]["chartTitle"] for panel in drawn if panel["viewType"] == "Run History Line Plot"]
    assert titles.count("Loss (filter by Job Type)") == 2  # of two stages
    assert all(f"{title.partition(' (filter')[0]}. " in words for title in titles)  # each has its words
    layouts = [panel["layout"] for b in blocks if b["type"] == "panel-grid" for panel in [*panels(b)][:2]]
    assert {(layout["x"], layout["y"]) for layout in layouts} == {(0, 0), (12, 0)}


def test_parts_of_the_report_are_of_the_runs_of_their_stage(written):
    _, report = written()
    grids = [block for block in report["spec"]["blocks"] if block["type"] == "panel-grid"]
    stages = [f["value"] for g in grids for f in g["metadata"]["runSets"][0]["filters"]["filters"]]
    assert stages == ["pretraining", "downstream", "pretraining", "downstream", "downstream"]  # and media of all


def test_runs_can_be_chosen(written):
    workspace, report = written("stage=downstream", "group=optuna_sex", "tags=[sex,resnet18]")
    assert workspace["displayName"] == report["displayName"] == "neuro_ssl downstream optuna_sex sex resnet18"
    assert [s["name"] for s in workspace["spec"]["section"]["panelBankConfig"]["sections"]] == SECTIONS[1:]
    assert next(iter(panels(workspace)))["config"]["chartTitle"] == "Loss"
    chosen = workspace["spec"]["section"]["runSets"][0]["filters"]["filters"]
    assert [(f["key"]["section"], f["key"]["name"], f["op"], f["value"]) for f in chosen] == [
        ("run", "jobType", "=", "downstream"),
        ("run", "group", "=", "optuna_sex"),
        ("run", "tags", "IN", ["sex"]),
        ("run", "tags", "IN", ["resnet18"]),
    ]
    assert [f.get("connector") for f in chosen[1:]] == ["AND"] * 3


def test_what_is_written_is_what_wandb_workspaces_reads(written):
    workspace, report = written()
    view = ws.Workspace._from_model(importlib.import_module("wandb_workspaces.workspaces.internal").View(**workspace))
    assert [section.name for section in view.sections] == SECTIONS
    assert {type(panel) for section in view.sections for panel in section.panels} == {
        *(wr.LinePlot, wr.BarPlot, wr.ParallelCoordinatesPlot, wr.ParameterImportancePlot, wr.ScatterPlot),
        wr.MediaBrowser,
    }
    model = importlib.import_module("wandb_workspaces.reports.v2.internal").ReportViewspec(**report)
    assert len(wr.Report._from_model(model).blocks) == len(report["spec"]["blocks"]) - 2  # an empty line at both ends


def test_without_a_key_it_says_how_to_publish(written, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    written()
    assert "WANDB_MODE=offline, so nothing was published; to publish: unset that" in capsys.readouterr().out
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("neuro_ssl.tracking.client.has_key", lambda: False)
    written()
    assert "no key of W&B is configured, so nothing was published; to publish: wandb login" in capsys.readouterr().out


def test_bad_input(written, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        written("stage=pretrain")
    assert "error: stage must be null (both), pretraining or downstream, got 'pretrain'" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        written()
    assert "pip install 'neuro_ssl[dashboard]'" in capsys.readouterr().err
