"""Every command of the paper's study composes; slow: one step of each of those at full scale, at reduced size."""

import functools
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from neuro_ssl.config import check_components, compose, plain
from neuro_ssl.evaluate import check_training
from neuro_ssl.files import CONF_DIR
from neuro_ssl.train import SUPPLIED
from tests.conftest import run_command

STUDY = Path(__file__).parents[1] / "experiments" / "kaczmarek2025"
TASKS = {"alzheimers": "aibl", "sex": "ixi", "brain_age": "ixi", "stroke_severity": "soop"}  # the paper's


@functools.cache
def composed(name, *options):
    """What `compose` finds, once: the commands of a study have much in common."""
    return compose(name, options)


@functools.cache
def commands(script, *arguments):
    """What a script of the study would run: (command, options) in its order."""
    environment = os.environ | {"DRY_RUN": "1", "NEURO_SSL_RUNS": "runs"}
    shown = subprocess.run(
        ["bash", STUDY / script, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    found = []
    for line in shown.stdout.splitlines():
        words = shlex.split(line)
        if "-m" not in words:
            continue  # a script of the study's own
        module = words[words.index("-m") + 1]
        found.append((module.removeprefix("neuro_ssl."), words[words.index(module) + 1 :]))
    return found


@pytest.mark.parametrize(("words", "n_evaluations"), [("full.sh", 3), ("run.sh", 1), ("run.sh real work", 2)])
def test_every_command_composes(words, n_evaluations):
    found = commands(*words.split())
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        for name, options in found:
            if name == "preprocess" and found[0] != (name, options) and words == "full.sh":
                continue  # the same for every cohort; `test_configs` composes them all
            config = composed(name, *options)
            if name == "train":
                check_components(config, SUPPLIED, optional=["views"])
            if name == "evaluate":
                check_training(shlex.split(config["train"]))
    names = [name for name, _ in found]
    assert names.count("evaluate") == n_evaluations
    assert names[-1] == "report"


def test_the_study_is_the_papers_table():
    tasks, trained = {}, {}
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        for name, options in commands("full.sh"):
            if name not in ("train", "evaluate"):
                continue
            config = plain(composed(name, *options))
            if name == "train":
                trained[config["name"]] = config["split"]["_target_"]
                continue
            for words in config["tasks"]:
                task, *more = shlex.split(words)
                tasks[task] = config["dataset"]["cohort"]
                assert plain(composed("train", f"task={task}", *more)["task"])["standardise_target"] is False
            assert set(config["encoders"]) == {"simclr", "mae"}
            assert [words.split()[0] for words in config["from_scratch"]] == ["resnet18", "vit_tiny"]
            assert config["n_untrained"] > 0
            assert {"logistic_probe", "ridge_probe", "finetune"} <= set(config["protocols"])
            assert (config["label_fractions"], config["seeds"]) == ([0.2, 1.0], [0, 1, 2])
            assert config["grid"] == "paper_1mm"
            # A fine-tuning is trained as by the paper's recipe, but for what that says of leakage and names.
            ours = plain(composed("train", "+experiment=finetune", *shlex.split(config["train"])))
            paper = plain(composed("train", "+experiment=kaczmarek2025/finetune"))
            for key in ("optimizer", "batch_size", "views", "early_stopping_patience", "frozen"):
                assert ours[key] == paper[key], key
            assert ours["trainer"]["max_epochs"] == paper["trainer"]["max_epochs"] == 300
    assert tasks == TASKS
    stored = "neuro_ssl.data.protocols.StoredSplit"
    assert trained == {"kaczmarek2025_simclr_pretrain": stored, "kaczmarek2025_mae_pretrain": stored}


@pytest.mark.slow
def test_one_step_of_each_command_at_full_scale(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURO_SSL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NEURO_SSL_RUNS", str(tmp_path / "runs"))
    run_command("simulate", "n_subjects=120", "spacing_mm=6", "alzheimers_fraction=0.3", "stroke_fraction=0.5")
    small = {
        "preprocess": ["dataset=simulated", "grid=8mm", "bias_correction=false", "registration=centre"],
        "train": ["dataset=simulated", "grid=8mm", "strategy=cpu", "trainer.num_nodes=1", "trainer.devices=1"],
        "evaluate": ["dataset=simulated", "grid=8mm", "strategy=cpu", "num_workers=0", "seeds=[0]", "n_untrained=1"],
    }
    small["train"] += ["num_workers=0", "batch_size=8", "trainer.max_epochs=1", "logger=csv"]
    small["train"] += ["representation_every_epochs=0"]
    small["evaluate"] += ["from_scratch=['resnet18 encoder.width=8','vit_tiny encoder.width=24 encoder.n_layers=1']"]
    weights = {}
    done = set()
    for name, options in commands("full.sh"):
        if name == "preprocess":
            if name in done:
                continue  # the same stand-in for every cohort
            options = [one for one in options if not one.startswith("dataset.root=")]
        own = small.get(name, [])
        if name == "train":
            options = [one for one in options if not one.startswith("strategy=")]
            vit = any("mae" in one for one in options)
            own = [*own, "encoder.width=24" if vit else "encoder.width=8", *["encoder.n_layers=1"] * vit]
        if name == "evaluate":
            encoders = ", ".join(f"{model}: '{path}'" for model, path in weights.items())
            options = [one for one in options if not one.startswith(("encoders=", "+evaluation=", "from_scratch="))]
            (train,) = (one for one in options if one.startswith("train="))
            options = [one for one in options if one is not train] + [train.replace("epochs=300", "epochs=1")]
            own = [*own, f"encoders={{{encoders}}}", "train_fractions=[0.5]"]
        run_command(name, *options, *own)
        done.add(name)
        if name == "train":
            model = "mae" if any("mae" in one for one in options) else "simclr"
            (weights[model],) = (tmp_path / "runs").glob(f"kaczmarek2025_{model}_pretrain-*")
    results = list((tmp_path / "runs").glob("evaluation-simulated-*/results-*/scores.csv"))
    assert len(results) == 3
    assert done == {"preprocess", "train", "evaluate", "report"}
