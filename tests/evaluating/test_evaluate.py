"""`python -m neuro_ssl.evaluate`, through its real entry point."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, roc_auc_score

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.models import Model, common_scans
from neuro_ssl.evaluating.training import is_of_evaluation
from neuro_ssl.evaluation.probes import fit_probe
from neuro_ssl.reporting.embeddings.encoded import of_evaluations
from neuro_ssl.views.intensity import standardise

VOLUME = "brain volume + intensity quantiles"


def the_evaluation(tmp_path):
    (folder,) = tmp_path.glob("evaluation-own-*")
    return folder


def the_results(tmp_path):
    (folder,) = the_evaluation(tmp_path).glob("results-*")
    return folder


def one(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


@pytest.fixture
def manifest(cohort):
    return VolumeStore.find(cohort / "stores" / "own", "16mm").manifest


def test_scores_are_those_of_the_predictions_and_what_any_encoder_has_to_beat_is_there(
    arguments, manifest, cohort, tmp_path, command, capsys
):
    command("evaluate", *arguments, "protocols=[ridge_probe,logistic_probe,knn_probe,linear_probe]")
    folder = the_results(tmp_path)
    predictions, scores = pd.read_parquet(folder / "predictions.parquet"), pd.read_csv(folder / "scores.csv")
    assert set(scores["model"]) == {"none: mean or majority", VOLUME, "untrained resnet18", "ours"}
    record = yaml.safe_load((folder / "evaluation.yaml").read_text())  # what reports need to know of tasks and models
    assert {target["name"] for target in record["targets"]} == set(scores["task"])
    assert [model["learnt_from"] for model in record["models"]] == [[]] * 4
    test = manifest[manifest["split"] == "test"]

    # Every score against scikit-learn, on the table as it is.
    for (task, model, protocol), rows in predictions[predictions["split"] == "test"].groupby(
        ["task", "model", "protocol"]
    ):
        assert sorted(rows["scan_id"].unique()) == sorted(test["scan_id"])
        line = {"task": task, "model": model, "protocol": protocol}
        by_seed = [seed for _, seed in rows.groupby("seed")]
        assert len(by_seed) == (2 if model.startswith("untrained") else 1)
        if task == "sex":
            expected = np.mean([roc_auc_score(r["target"], r["prediction"]) for r in by_seed])
            assert one(scores, metric="auroc", **line)["value"] == pytest.approx(expected)
        else:
            expected = np.mean([mean_absolute_error(r["target"], r["prediction"]) for r in by_seed])
            assert one(scores, metric="mae", **line)["value"] == pytest.approx(expected)
            if model != "none: mean or majority":
                expected = np.mean([pearsonr(r["target"], r["prediction"])[0] for r in by_seed])
                assert one(scores, metric="pearson", **line)["value"] == pytest.approx(expected)

    # The constant is the training scans' mean; brain darkens with age, and that is what the statistics know.
    constant = predictions[predictions["protocol"].eq("constant") & predictions["task"].eq("brain_age")]
    train = manifest[manifest["split"] == "train"]
    assert constant["prediction"].unique() == pytest.approx(train["age_years"].mean())
    ages = {
        model: one(scores, task="brain_age", metric="mae", model=model, protocol="ridge_probe")
        for model in (VOLUME, "ours")
    }
    assert ages[VOLUME]["value"] < 5 < one(scores, task="brain_age", metric="mae", protocol="constant")["value"]
    assert ages["ours"]["low"] < ages["ours"]["value"] < ages["ours"]["high"]

    # Who is compared with whom, under one protocol, paired; Holm within the table.
    comparisons = pd.read_csv(folder / "comparisons.csv")
    own = comparisons[comparisons["task"] == "brain_age"]
    assert set(own["model"]) == {"ours"} and set(own["against"]) == {VOLUME, "untrained resnet18"}
    assert (own["p_holm"] >= own["p"]).all() and len(own) == 6
    row = one(own, against=VOLUME, protocol="ridge_probe")
    assert row["value"] == pytest.approx(ages["ours"]["value"] - ages[VOLUME]["value"])

    # What lies beside.
    subgroups = pd.read_csv(folder / "subgroups.csv")
    assert set(subgroups.loc[subgroups["task"] == "sex", "subgroup"]) == {"age_band", "site", "scanner"}
    women = one(subgroups, task="brain_age", model="ours", protocol="ridge_probe", subgroup="sex", level="F")
    rows = predictions[predictions["split"].eq("test") & predictions["task"].eq("brain_age")]
    rows = rows[rows["model"].eq("ours") & rows["protocol"].eq("ridge_probe") & rows["sex"].eq("F")]
    assert women["value"] == pytest.approx(mean_absolute_error(rows["target"], rows["prediction"]))
    assert women["few"] and women["n_subjects"] == rows["subject_id"].nunique()
    reliability = pd.read_csv(folder / "reliability.csv")
    assert {VOLUME, "ours"} <= set(reliability["model"]) and (reliability["n_pairs"] >= 5).all()
    assert (folder / "calibration.csv").exists() and (folder / "age_gap.csv").exists()

    features = pd.read_parquet(folder / "features.parquet")
    held_out = manifest[manifest["split"] != "train"]
    assert features["model"].unique().tolist() == [VOLUME, "untrained resnet18", "ours"]
    ours = features[features["model"] == "ours"].set_index("scan_id")
    assert sorted(ours.index) == sorted(held_out["scan_id"]) and (ours["n_held_out"] == len(held_out)).all()
    assert ours.loc[held_out["scan_id"], "split"].tolist() == held_out["split"].tolist()
    (file,) = (cohort / "features" / "own").glob("*-simclr_pretrain-*")
    embedded = pd.read_parquet(file).set_index("scan_id").loc[ours.index]
    np.testing.assert_array_equal(np.stack(ours["features"]), embedded[[f"f{i}" for i in range(64)]])
    assert ours["age_years"].equals(embedded["age_years"])
    (shown,) = of_evaluations([folder])  # as the report reads them
    assert [encoded.name for encoded in shown.encoders] == features["model"].unique().tolist()
    assert shown.simulated and len(shown.scans) == len(held_out)

    text = (folder / "results.md").read_text()
    assert text in capsys.readouterr().out
    assert "Simulated scans (own)" in text and "Only 11 test subjects" in text and "disjoint" in text
    assert "Kaczmarek et al. 2025" in text


def test_a_probe_is_fitted_to_training_scans_alone(arguments, manifest, cohort, tmp_path, command):
    command("evaluate", *arguments, "tasks=[brain_age]", "protocols=[ridge_probe]")
    predictions = pd.read_parquet(the_results(tmp_path) / "predictions.parquet")
    made = predictions[predictions["model"] == "ours"].set_index("scan_id")["prediction"]
    (file,) = (cohort / "features" / "own").glob("*-simclr_pretrain-*")
    table = pd.read_parquet(file).set_index("scan_id").loc[manifest["scan_id"]]
    x = table[[name for name in table if name[0] == "f" and name[1:].isdigit()]].to_numpy(float)
    train = (manifest["split"] == "train").to_numpy()
    age, subject = manifest["age_years"].to_numpy(), manifest["subject_id"].to_numpy()
    expected = fit_probe("ridge_probe", "regression", x[train], age[train], subject[train])(x[~train])
    np.testing.assert_allclose(made.loc[manifest["scan_id"][~train]], expected)


def test_features_of_another_precision_are_others(arguments, cohort, quick, command):
    command("evaluate", *arguments, "tasks=[sex]", "n_untrained=0")
    command("evaluate", *arguments, "tasks=[sex]", "n_untrained=0", "trainer.precision=bf16-mixed", "reopen_test=true")
    whole, half = sorted((cohort / "features" / "own").glob("*-simclr_pretrain-*"), key=lambda file: len(file.name))
    assert half.stem == f"{whole.stem}-bf16-mixed"


def test_labels_are_the_same_on_every_grid(cohort):
    store = VolumeStore.find(cohort / "stores" / "own", "16mm")
    other = replace(store, manifest=store.manifest.assign(site=store.manifest["site"].replace({"A": "B"})))
    models = [Model(str(i), "pretrained", {"own": one}) for i, one in enumerate((store, other))]
    with pytest.raises(InputError, match="differ in site of the same scans"):
        common_scans(models, "own")
    more = [replace(one, manifest=one.manifest.assign(score=i)) for i, one in enumerate((store, store))]
    models = [Model(str(i), "pretrained", {"own": one}) for i, one in enumerate(more)]
    assert len(common_scans(models, "own")[0]) == len(store.manifest)
    with pytest.raises(InputError, match="differ in score of the same scans"):
        common_scans(models, "own", ["score"])


def test_other_test_sets(arguments, manifest, cohort, tmp_path, command):
    """Labels efficiency, the same people out of distribution, and another cohort, in one evaluation."""
    more = [
        "tasks=[brain_age]",
        "test_sets=[test,leave_site_out,other]",
        "label_fractions=[0.1,0.5,1]",
        "label_seeds=[0,1]",
    ]
    command("evaluate", *arguments, *more)
    folder = the_results(tmp_path)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    test = predictions[predictions["split"] == "test"]
    other = VolumeStore.find(cohort / "stores" / "other", "16mm").manifest
    own = sorted(manifest.loc[manifest["split"] == "test", "scan_id"])
    for test_set, expected in (("test", own), ("leave_site_out", own), ("other", sorted(other["scan_id"]))):
        assert sorted(test.loc[test["test_set"] == test_set, "scan_id"].unique()) == expected
    volume = test[test["model"].eq(VOLUME) & test["test_set"].eq("test")]
    sizes = volume.groupby("fraction")["n_train"].unique()
    n = manifest.loc[manifest["split"] == "train", "subject_id"].nunique()
    assert volume.groupby("fraction")["replicate"].nunique().tolist() == [2, 2, 1]
    assert max(sizes[0.1]) < max(sizes[0.5]) < sizes[1.0][0] and n == 20
    efficiency = pd.read_csv(folder / "label_efficiency.csv")
    assert set(efficiency["fraction"]) == {0.1, 0.5, 1.0}
    assert pd.read_csv(folder / "scores.csv")["fraction"].unique().tolist() == [1.0]
    # A site's people are predicted by a model of the other site alone.
    left_out = test[test["test_set"].eq("leave_site_out") & test["protocol"].eq("constant") & test["fraction"].eq(1)]
    train = manifest[manifest["split"] == "train"]
    for site, rows in left_out.groupby("site"):
        assert rows["prediction"].unique() == pytest.approx(train.loc[train["site"] != site, "age_years"].mean())


def test_cross_validation_tests_everybody_once_a_repetition_and_nobody_who_was_pretrained_on(
    arguments, cohort, pretrained_on_own, tmp_path, command, capsys
):
    folds = ["test_sets=[cross_validation]", "cross_validation.n_folds=3", "cross_validation.n_repeats=2"]
    with pytest.raises(SystemExit):
        command("evaluate", *arguments, *folds)
    assert "were trained on 20 of the 39" in capsys.readouterr().err
    elsewhere = [a.replace("cohort=own", "cohort=other") for a in arguments]
    command("evaluate", *elsewhere, *folds)
    (folder,) = tmp_path.glob("evaluation-other-*/results-*")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    test = predictions[predictions["split"] == "test"]
    other = VolumeStore.find(cohort / "stores" / "other", "16mm").manifest
    for _, rows in test.groupby(["task", "model", "protocol", "seed", "repeat"]):
        assert sorted(rows["scan_id"]) == sorted(other["scan_id"])
        assert (rows.groupby("subject_id")["fold"].nunique() == 1).all()
    assert test.groupby("repeat")["fold"].nunique().tolist() == [3, 3]
    constant = pd.read_csv(folder / "scores.csv").query("protocol == 'constant' and metric == 'auroc'")
    assert constant["value"].tolist() == [0.5]


@pytest.mark.parametrize("test_sets", ["[test]", pytest.param("[test,other]", marks=pytest.mark.slow)])
def test_what_is_trained_for_a_task_is_trained_by_the_train_command(
    arguments, cohort, quick, tmp_path, command, test_sets
):
    more = ['train="trainer.max_epochs=1 logger=csv"', "protocols=[finetune]", "n_untrained=0", "tasks=[brain_age]"]
    command("evaluate", *arguments, *more, f"test_sets={test_sets}")
    rows = pd.read_parquet(the_results(tmp_path) / "predictions.parquet").query("protocol == 'finetune'")
    (run,) = tmp_path.glob("finetune-brain_age-*")
    assert is_of_evaluation(yaml.safe_load((run / "run.yaml").read_text())["command"])
    made = pd.read_parquet(run / "predictions.parquet").set_index("scan_id")["prediction"]
    own = rows[rows["test_set"] == "test"].set_index("scan_id")
    np.testing.assert_array_equal(own["prediction"], made.loc[own.index])

    # Of another cohort: the run's own network, by way of its features and its head.
    other = rows[rows["test_set"].eq("other") & rows["split"].eq("test")].set_index("scan_id")
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    encoder = Weights.load(str(run)).build_encoder().eval()
    store = VolumeStore.find(cohort / "stores" / "other", "16mm")
    for scan in store.manifest.itertuples() if "other" in test_sets else ():
        volume = torch.from_numpy(store.read(scan.volume).astype(np.float32))[None, None]
        with torch.no_grad():
            output = encoder(standardise(volume, volume > 0)) @ state["head.weight"].T + state["head.bias"]
        expected = output * state["target_sd"] + state["target_mean"]
        assert other.loc[scan.scan_id, "prediction"] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.slow
def test_another_cohort_alone_leaves_the_own_test_split_closed(arguments, quick, tmp_path, command):
    more = ['train="trainer.max_epochs=1 logger=csv"', "protocols=[finetune]", "n_untrained=0", "tasks=[sex]"]
    command("evaluate", *arguments, *more, "test_sets=[other]")
    (run,) = tmp_path.glob("finetune-sex-*")
    assert yaml.safe_load((run / "run.yaml").read_text())["test_opened"] == []
    assert set(pd.read_parquet(run / "predictions.parquet")["split"]) == {"val"}


@pytest.mark.slow
def test_two_processes_find_the_same(arguments, cohort, tmp_path, command):
    """Uneven: 30 and more scans in parts of 64, features anew on two processes."""
    command("evaluate", *arguments, "tasks=[sex]", "n_untrained=1", f"features_dir='{tmp_path / 'one'}'")
    first = the_results(tmp_path)
    expected = [pd.read_csv(first / name) for name in ("scores.csv", "comparisons.csv")]
    text = (first / "results.md").read_text()
    first.parent.rename(tmp_path / "first")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    two = [*arguments, "tasks=[sex]", "n_untrained=1", f"features_dir='{tmp_path / 'two'}'"]
    two = [argument for argument in two if argument != "strategy=cpu"]
    ddp = ["strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    subprocess.run([*launcher, "neuro_ssl.evaluate", *two, *ddp], check=True, timeout=180)
    second = the_results(tmp_path)
    for table, name in zip(expected, ("scores.csv", "comparisons.csv"), strict=True):
        pd.testing.assert_frame_equal(pd.read_csv(second / name), table, atol=1e-6)
    assert (second / "results.md").read_text() == text


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("protocols=[ridge]", "protocols: ridge is none of"),
        ("tasks=[sex,sex]", "tasks must name each once"),
        ("tasks=[simclr]", "tasks: simclr learns without labels"),
        ("tasks=[alzheimers]", "task alzheimers"),
        ("test_sets=[elsewhere]", "test_sets: elsewhere is neither"),
        ("test_sets=[own]", "its test split is called test"),
        ("encoders={ours: /nowhere}", "weights=/nowhere"),
        ("encoders=[runs]", "encoders must map names to weights"),
        ("from_scratch=[resnet99]", "resnet99"),
        ("label_fractions=[2]", "label_fractions must be above 0"),
        ("cross_validation.n_folds=1", "n_folds"),
        ("n_untrained=-1", "n_untrained must be at least 0"),
        ("statistics.n_resamples=0", "statistics.n_resamples must be at least 100"),
        ("train_fractions=[0]", "train_fractions must be above 0"),
        ("protocols=[ridge_probe]", "none of ridge_probe is for a classification, as sex"),
        ('train="seed=3"', "train: seed=3 would undo"),
        ('train="trainer.max_epoch=3"', "trainer.max_epoch is no key"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(arguments, argument, message, tmp_path, command, capsys):
    arguments = [a for a in arguments if a.split("=")[0] != argument.split("=")[0]]
    more = ["test_sets=[cross_validation]"] if "cross_validation" in argument else []
    more += ["protocols=[finetune]"] if argument.startswith("train=") else []
    with pytest.raises(SystemExit):
        command("evaluate", *arguments, argument, *more)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
