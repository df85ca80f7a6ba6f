"""Several targets at once, and columns of a cohort's own, through real runs of the command."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import mean_absolute_error, roc_auc_score

from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import read_targets
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.files import CONF_DIR
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.multitask import Multitask
from tests.conftest import run_command
from tests.tasks.conftest import labels

AGE_AND_SEX = {"brain_age": {"target": "age_years"}, "sex": {"target": "sex", "classes": ["F", "M"]}}
NAN = float("nan")


def multitask(targets=AGE_AND_SEX, **changes):
    parts = {"views": None, "optimizer": Optimizer(), "seed": 0, "frozen": False, "target_mean": [50, 0.5]}
    return Multitask(ResNet3D(width=8), **(parts | {"target_sd": [10, 0.5]} | changes), targets=targets)


def naive_loss(output, target, weights):
    """Scan by scan, in float64: the weighted mean over targets of the mean over the scans that have them."""
    age = [((o - (t - 50) / 10) ** 2) for o, t in zip(output[:, 0], target[:, 0], strict=True) if not np.isnan(t)]
    sex = [np.log1p(np.exp(-o if t else o)) for o, t in zip(output[:, 1], target[:, 1], strict=True) if not np.isnan(t)]
    means = [np.mean(errors) if errors else 0.0 for errors in (age, sex)]
    return np.average(means, weights=weights)


@pytest.mark.parametrize("weights", [(1, 1), (1, 3)])
@pytest.mark.parametrize("ages", [[40, NAN, 65, 71], [NAN, NAN, 65, NAN], [NAN] * 4])
def test_loss_and_gradient_of_the_labels_that_are_there(ages, weights):
    weighted = {n: t | {"weight": w} for (n, t), w in zip(AGE_AND_SEX.items(), weights, strict=True)}
    task = multitask(weighted)
    target = torch.tensor([ages, [0.0, 1.0, NAN, 1.0]]).T
    output = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = task.loss(output, target)
    loss.backward()
    exact, goal = output.detach().double().numpy(), target.double().numpy()
    assert loss.item() == pytest.approx(naive_loss(exact, goal, weights), rel=1e-5)
    for i, j in np.ndindex(4, 2):
        step = np.zeros((4, 2))
        step[i, j] = 1e-5
        slope = (naive_loss(exact + step, goal, weights) - naive_loss(exact - step, goal, weights)) / 2e-5
        assert output.grad[i, j].item() == pytest.approx(slope, abs=1e-5)


def test_each_target_is_in_its_own_scale():
    natural = multitask().natural(torch.tensor([[0.0, 0.0], [-2.0, 2.0]]))
    torch.testing.assert_close(natural, torch.tensor([[50, 0.5], [30, 1 / (1 + np.exp(-2))]]).float())


def test_losses_over_an_epoch_are_means_over_labelled_scans():
    task = multitask()
    random = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(7, 2, generator=random), torch.tensor([[40, NAN, NAN, NAN, 60, 70, 20], [1.0] * 7]).T
    for part in (slice(0, 1), slice(1, 4), slice(4, 7)):  # in the second there is no age
        task.val_loss.update(*task.errors(outputs[part], targets[part]))
    expected = naive_loss(outputs.double().numpy(), targets.double().numpy(), (1, 1))
    assert task.val_loss.compute().item() == pytest.approx(expected, rel=1e-5)


def test_a_scan_takes_part_with_the_labels_that_it_has(random_scans):
    manifest = random_scans.manifest.copy()
    manifest.loc[[0, 3], "age_years"] = None
    manifest.loc[[1, 3], "sex"] = None
    targets = read_targets("multitask", {"targets": AGE_AND_SEX})
    datamodule = SupervisedDataModule(dataclasses.replace(random_scans, manifest=manifest), targets, 4)
    train = datamodule.datasets["train"]
    assert train.scan.tolist() == [0, 1, 2, 4, 5, 6]
    rows = manifest.loc[train.scan.tolist()]
    expected = np.stack([rows["age_years"], rows["sex"].map({"F": 0.0, "M": 1.0})], axis=1)
    np.testing.assert_array_equal(train.target, expected)
    means, sds = datamodule.target_statistics
    np.testing.assert_allclose(means, np.nanmean(expected, axis=0))
    np.testing.assert_allclose(sds, np.nanstd(expected, axis=0))
    assert str(datamodule).endswith("; brain_age of 5 train, 3 val, 3 test; sex of 5 train, 3 val, 3 test")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "task.targets: name at least one"),
        ({"a/b": {"target": "sex"}}, "task.targets: 'a/b' names metrics"),
        ({"age": {"unit": "years"}}, "task.targets.age.target is missing"),
        ({"age": {"target": "age_years", "units": "years"}}, "task.targets.age.units is not known; it takes target, "),
        ({"sex": {"target": "sex", "classes": ["F"]}}, "task.targets.sex.classes must name two labels"),
        ({"age": {"target": "age_years", "weight": 0}}, "task.targets.age.weight: .*greater than 0, got 0"),
        (
            {"age": {"target": "age_years", "reference": {"cohort": "ixi", "metric": "auroc", "fine_tuned": 1}}},
            "reference of age is in metric 'auroc'; a regression has mae",
        ),
    ],
)
def test_refuses(targets, message):
    with pytest.raises(InputError, match=message):
        multitask(targets, target_mean=0.0, target_sd=1.0)


def test_the_papers_scores_are_the_same_in_every_file():
    tasks = {
        name: yaml.safe_load((Path(CONF_DIR) / "task" / f"{name}.yaml").read_text())
        for name in ("brain_age", "sex", "multitask")
    }
    for name, target in tasks["multitask"]["targets"].items():
        assert target == {key: tasks[name][key] for key in target}


@pytest.fixture(scope="module")
def runs(labelled, tmp_path_factory):
    """Two targets in the three ways of training, one of them alone, and columns of the cohort's own; and the report."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = [*labelled, f"runs_dir={folder}"]
    run_command("train", "+experiment=from_scratch", "task=multitask", *arguments)
    (scratch,) = folder.glob("from_scratch-*")
    tuned = [argument for argument in arguments if not argument.startswith("encoder")]
    run_command("train", "+experiment=finetune", "task=multitask", f"weights={scratch}", *tuned)
    for task in (
        ["task=multitask"],
        ["task=brain_age"],
        ["task=regression", "task.target=mmse", "task.unit=points"],
        ["task=classification", "task.target=handedness", "task.classes=[right,left]", "task.leave_out=[both]"],
    ):
        run_command("train", "+experiment=linear_probe", *task, *arguments)
    run_command("report", f"runs_dir={folder}")
    return folder


@pytest.mark.parametrize("recipe", ["from_scratch", "linear_probe", "finetune"])
def test_a_run_predicts_each_target_of_the_scans_that_have_it(runs, recipe):
    (run,) = runs.glob(f"{recipe}-multitask-*")
    table, results = pd.read_parquet(run / "predictions.parquet"), json.loads((run / "results.json").read_text())
    truth = labels().assign(scan_id=labels()["subject_id"], positive=labels()["sex"].map({"F": 0.0, "M": 1.0}))
    for name, column, metric, score in (
        ("brain_age", "age_years", "mae", mean_absolute_error),
        ("sex", "positive", "auroc", roc_auc_score),
    ):
        known = truth[truth[column].notna()].set_index("scan_id")
        predicted = table[table["task"] == name].set_index("scan_id")
        held_out = known[known["split"] != "train"]
        assert list(predicted.index) == list(held_out.index)
        np.testing.assert_allclose(predicted["target"], held_out[column], rtol=1e-6)
        test = predicted[predicted["split"] == "test"]
        found = results["targets"][name]
        assert found["scores"][metric]["value"] == pytest.approx(score(test["target"], test["prediction"]))
        assert found["n_test_scans"] == len(test) == 3
        mean = known[column][known["split"] == "train"].mean()
        assert found["baseline"]["prediction"] == pytest.approx(mean)
    assert results["task"] == "multitask"
    assert results["leakage"]["verdict"] == "disjoint"
    metrics = pd.read_csv(run / "metrics.csv")
    assert {"train/loss", "val/loss", "val/sex/auroc", "val/brain_age/mae", "test/brain_age/mae"} <= set(
        metrics["metric"]
    )
    assert np.isfinite(metrics["value"]).all()


def test_the_epoch_of_least_validation_loss_is_tested(runs):
    (run,) = runs.glob("from_scratch-multitask-*")
    metrics = pd.read_csv(run / "metrics.csv").query("metric == 'val/loss'")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == metrics.loc[metrics["value"].idxmin(), "epoch"]


def test_the_report_shows_targets_beside_single_tasks(runs):
    text = (runs / "report" / "results.md").read_text()
    age, sex = (text.partition(f"### {title}: cohort own")[2].partition("\n\n###")[0] for title in ("Brain age", "Sex"))
    for model in ("Fine-tuned, multi-task", "From scratch, multi-task", "Linear probe, untrained, multi-task"):
        assert f"| {model}" in age and f"| {model}" in sex
    assert "| Linear probe, untrained  " in age
    assert "| Linear probe, untrained  " not in sex
    table = pd.read_csv(runs / "report" / "results.csv")
    mae = table[(table["task"] == "brain_age") & (table["metric"] == "mae") & (table["protocol"] == "linear_probe")]
    assert sorted(mae["multitask"]) == [False, True]


def test_the_papers_score_is_last_and_said_to_be_of_other_scans(runs):
    text = (runs / "report" / "results.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| Paper")]
    assert len(rows) == 2
    assert all("another test set (IXI)" in row for row in rows)
    assert "on their own test scans, not on these" in text
    table = pd.read_csv(runs / "report" / "results.csv")
    paper = table[table["protocol"].str.startswith("paper")].set_index("task")
    assert dict(paper["value"]) == {"brain_age": 4.35, "sex": 0.991}
    assert set(paper["cohort"]) == {"ixi"}
    page = (runs / "report" / "report.html").read_text()
    assert "Paper (fine-tuned SimCLR, IXI)" in page


def test_the_same_command_shows_both_tables(runs, labelled, command, capsys):
    command("train", "+experiment=linear_probe", "task=multitask", *labelled, f"runs_dir={runs}")
    shown = capsys.readouterr().out
    assert "already finished" in shown
    assert "brain_age in years: 3 test scans of 3 subjects" in shown
    assert "sex: 3 test scans of 3 subjects" in shown
    assert "the paper's auroc, on its own test scans of ixi: fine-tuned 0.991" in shown


def test_a_fraction_of_several_targets_is_refused(labelled, tmp_path, command, capsys):
    with pytest.raises(SystemExit):
        others = ["~task.targets.sex", "+task.targets.hand={target: handedness, classes: [right, left]}"]
        arguments = [*labelled, f"runs_dir={tmp_path}", "label_fraction=0.5"]
        command("train", "+experiment=from_scratch", "task=multitask", *others, *arguments)
    told = capsys.readouterr().err
    assert "label_fraction=0.5 is stratified by one target, and this task has brain_age, hand" in told


@pytest.mark.slow
def test_a_closed_test_split_is_opened_later(labelled, tmp_path, command, capsys):
    arguments = ["+experiment=linear_probe", "task=multitask", *labelled, f"runs_dir={tmp_path}"]
    command("train", *arguments, "open_test=false")
    shown = capsys.readouterr().out
    assert "brain_age in years: VALIDATION scores, 3 validation scans of 3 subjects" in shown
    assert "sex: VALIDATION scores, 4 validation scans of 4 subjects" in shown
    (run,) = tmp_path.glob("linear_probe-*")
    assert set(pd.read_parquet(run / "predictions.parquet")["split"]) == {"val"}
    command("train", *arguments)
    assert "sex: 3 test scans of 3 subjects" in capsys.readouterr().out
    assert set(json.loads((run / "results.json").read_text())["targets"]) == {"brain_age", "sex"}


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_columns_of_ones_own(runs, task):
    truth = labels().set_index("subject_id")
    mmse, hand = truth["MMSE score"], truth["handedness"].map({"right": 0.0, "left": 1.0})
    expected = (mmse if task == "regression" else hand)[truth["split"] != "train"].dropna()
    (run,) = runs.glob(f"linear_probe-{task}-*")
    predicted = pd.read_parquet(run / "predictions.parquet").set_index("scan_id")
    assert dict(predicted["target"]) == dict(expected)
    report = (runs / "report" / "results.md").read_text()
    title = "Regression of mmse" if task == "regression" else "Classification of handedness"
    table = report.partition(f"### {title}: cohort own, grid 16mm\n\n")[2].partition("\n\n")[0]
    assert ("MAE (points)" if task == "regression" else "AUROC") in table
    assert "Paper" not in table


def test_a_column_must_be_named(labelled, command, capsys):
    with pytest.raises(SystemExit):
        command("train", "+experiment=linear_probe", "task=regression", *labelled)
    assert "error: task.target: Missing mandatory value" in capsys.readouterr().err
