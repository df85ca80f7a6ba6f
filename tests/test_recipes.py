"""The paper's recipes hold the paper's settings (Kaczmarek et al. 2025), and each takes a step at reduced size."""

import numpy as np
import pandas as pd
import pytest
import yaml

from neuro_ssl.config import build, plain
from neuro_ssl.grid import Grid
from tests.test_configs import CONF, composed

# Restated from the paper and its public code, independently of the files. Adam's defaults hold where it names nothing.
ADAM = {"algorithm": "adam", "weight_decay": 0.0, "schedule": "constant", "warmup_fraction": 0.0, "layer_decay": 1.0}
DOWNSTREAM = {
    "allow_leakage": True,
    "early_stopping_patience": None,
    "grid": "paper_1mm",
    "batch_size": 6,
    "views": None,
    "optimizer": ADAM | {"learning_rate": 1e-4},
    "trainer": {"max_epochs": 300, "precision": "32-true"},
    "task": {"standardise_target": False, "standardise_features": False},
}
PAPER = {
    "simclr_pretrain": {
        "seed": 42,
        "split": {"_target_": "neuro_ssl.data.protocols.TrainOnTest"},
        "grid": "paper_1mm",
        "batch_size": 6 * 3 * 4,  # per GPU × nodes × GPUs of each
        "encoder": {"depth": 18, "width": 512 // 8, "norm": "batch", "stem_stride": 1},
        "views": {
            "_target_": "neuro_ssl.views.kaczmarek2025.Kaczmarek2025",
            "min_crop_voxels": [30, 40, 40],
            "flip_probability": 0.5,
            "rotation_probability": 0.5,
            "rotation_radians": 0.785,
            "shift": 0.5,
            "shift_probability": 0.8,
            "gamma_range": [0.5, 1.5],
            "gamma_probability": 0.8,
        },
        "task": {"_target_": "neuro_ssl.tasks.simclr.SimCLR", "projector_dims": [512, 64], "temperature": 0.5},
        "optimizer": ADAM | {"learning_rate": 3e-4},
        "trainer": {"max_epochs": 1000, "precision": "32-true", "sync_batchnorm": True},
    },
    "finetune": DOWNSTREAM | {"frozen": False},
    "linear_probe": DOWNSTREAM | {"frozen": True},
}


def compare(found, expected, key=""):
    for name, value in expected.items():
        if isinstance(value, dict):
            compare(found[name], value, f"{key}{name}.")
        else:
            assert found[name] == value, f"{key}{name}"


@pytest.mark.parametrize("strategy", ["auto", "ddp", "gpu"])
@pytest.mark.parametrize("recipe", PAPER)
def test_settings_are_the_papers_whatever_the_strategy(recipe, strategy):
    cfg = composed(f"+experiment=kaczmarek2025/{recipe}", "weights=somewhere", f"strategy={strategy}")
    found = {name: plain(cfg[name]) for name in cfg if name not in ("hydra", "dataset", "name")}
    compare(found, PAPER[recipe])
    assert Grid.named(found["grid"]).shape == (150, 192, 192)
    if recipe == "simclr_pretrain":
        names = ["adni", "aomic", "corr", "dlbs", "gsp", "habs_hd", "mcsa", "nifd", "ppmi", "sald", "soop"]
        assert (cfg.dataset.cohort, cfg.dataset.cohorts) == ("neuro11", names)


@pytest.mark.parametrize("recipe", ["finetune", "linear_probe"])
@pytest.mark.parametrize(
    ("task", "best"),
    [
        ("alzheimers", {"monitor": "val/auroc", "mode": "max"}),
        ("sex", {"monitor": "val/auroc", "mode": "max"}),
        ("brain_age", {"monitor": "val/loss", "mode": "min"}),
        ("stroke_severity", {"monitor": "val/loss", "mode": "min"}),
    ],
)
def test_the_checkpoint_is_chosen_as_in_the_paper(recipe, task, best):
    cfg = composed(f"+experiment=kaczmarek2025/{recipe}", "weights=somewhere", f"task={task}", "encoder.width=8")
    parts = {"encoder": build(plain(cfg.encoder)), "views": None, "optimizer": build(plain(cfg.optimizer))}
    module = build(plain(cfg.task), **parts, seed=cfg.seed, frozen=cfg.frozen, target_mean=50.0, target_sd=10.0)
    assert module.best == best
    assert (float(module.target_mean), float(module.target_sd)) == (0.0, 1.0)


@pytest.mark.parametrize("recipe", PAPER)
def test_every_value_says_where_it_comes_from(recipe):
    lines = (CONF / "experiment" / "kaczmarek2025" / f"{recipe}.yaml").read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert all(word in header for word in ("doi", "python -m neuro_ssl.train", "Hardware:", "Result in the paper"))
    values = [line for line in lines if not line.startswith(("#", "defaults:", "name:", "weights:")) and line.strip()]
    values = [line for line in values if not line.endswith(":")]
    assert len(values) > 10
    for line in values:
        _, _, comment = line.partition("# ")
        assert comment.startswith(("paper", "our choice")) or "override" in line, line


@pytest.fixture(scope="module")
def one_step_each(real_brains, tmp_path_factory):
    from tests.conftest import run_command

    runs = tmp_path_factory.mktemp("runs")
    tiny = ["dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={runs}"]
    tiny += ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"]
    run_command("train", "+experiment=kaczmarek2025/simclr_pretrain", "encoder.width=8", *tiny)
    weights = f"weights={next(runs.glob('kaczmarek2025_simclr_pretrain-*'))}"
    for recipe in ("finetune", "linear_probe"):
        run_command("train", f"+experiment=kaczmarek2025/{recipe}", weights, *tiny)
    return runs


@pytest.mark.parametrize("recipe", PAPER)
def test_one_step(one_step_each, recipe):
    (run,) = one_step_each.glob(f"kaczmarek2025_{recipe}-*")
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert (record["status"], record["seed"]) == ("finished", 42 if recipe == "simclr_pretrain" else 0)
    metrics = pd.read_csv(run / "metrics.csv").set_index("metric")["value"]
    if recipe == "simclr_pretrain":
        assert 0 < metrics["train/loss"] < 10
        assert record["dataset"]["split"] == "test subjects are trained on too"
        assert pd.read_csv(run / "splits.csv")["split"].value_counts().to_dict() == {"train": 3, "val": 1}
    else:  # on raw ages of 50 to 74 years, from a head near 0: nothing is standardised
        ages = pd.read_parquet(run / "predictions.parquet")
        val = ages[ages["split"] == "val"]
        assert metrics["val/loss"] == pytest.approx(((val["prediction"] - val["target"]) ** 2).mean(), rel=1e-4)
        assert metrics["train/loss"] > 1000
        assert np.isfinite(ages["prediction"]).all()
        assert record["leakage"] == {
            "verdict": "overlapping",
            "n_subjects": {"val": 0, "test": 1},
        }  # the paper's, knowingly
