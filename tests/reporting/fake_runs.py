"""A runs directory as training leaves it, with made-up predictions. `python tests/reporting/fake_runs.py DIR`."""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from neuro_ssl.evaluation.calibration import with_decisions
from neuro_ssl.evaluation.scores import score_predictions

# (protocol, initialisation): error of the age in years, noise of the sex logit
QUALITY = {
    ("linear_probe", "pretrained"): (8.0, 1.5),
    ("linear_probe", "untrained"): (13.0, 4.0),
    ("finetune", "pretrained"): (6.0, 0.9),
    ("from_scratch", "untrained"): (6.3, 1.0),
}
PRETRAINING = "simclr_pretrain-0a1b2c3d"


def write_runs(
    runs_dir,
    *,
    simulated=True,
    n_subjects=36,
    seeds=(0,),
    quality=QUALITY,
    dirty=False,
    tasks=("age", "sex"),
    pretraining=True,
):
    if pretraining:
        pretraining_run(runs_dir / PRETRAINING, simulated, dirty)
    for seed in seeds:
        for (protocol, initialisation), (age_error, sex_noise) in quality.items():
            for task in tasks:
                weights = PRETRAINING if initialisation == "pretrained" else None
                name = f"{task}-{protocol}-{initialisation}-{seed}"
                rng = np.random.default_rng([seed, *name.encode()])
                table = subjects(n_subjects)
                if task == "age":
                    table["target"] = table["age_years"]
                    table["prediction"] = 0.85 * (table["target"] - 55) + 55 + rng.normal(0, age_error, len(table))
                else:
                    table["target"] = (table["sex"] == "M").astype(float)
                    logit = 2 * table["target"] - 1 + sex_noise * rng.normal(size=len(table))
                    table["prediction"] = 1 / (1 + np.exp(-logit))
                downstream_run(runs_dir / name, table, task, protocol, initialisation, weights, seed, simulated, dirty)


def subjects(n):
    rng = np.random.default_rng(0)
    subject = np.concatenate([np.arange(n), np.arange(n // 5)])  # a fifth has a second session
    ids = [f"cohort/sub-{i:03d}" for i in subject]
    session = ["1"] * n + ["2"] * (n // 5)
    return pd.DataFrame(
        {
            "scan_id": [f"{i}_ses-{s}" for i, s in zip(ids, session, strict=True)],
            "subject_id": ids,
            "session_id": session,
            "age_years": rng.uniform(20, 90, n)[subject],
            "sex": np.array(["F", "M"])[subject % 2],
            "site": np.array(["a", "b", "c"])[subject % 3],
        }
    )


def downstream_run(path, test, task, protocol, initialisation, weights, seed, simulated=True, dirty=False):
    kind = "regression" if task == "age" else "classification"
    path.mkdir(parents=True)
    table = pd.concat([test.assign(split="val", scan_id="val-" + test["scan_id"]), test.assign(split="test")])
    if kind == "classification":
        table = with_decisions(table)
    table.to_parquet(path / "predictions.parquet")
    constant = 54.0 if kind == "regression" else 1.0
    scores, baseline = (
        {
            name: {k: None if math.isnan(v) else v for k, v in asdict(score).items()}
            for name, score in score_predictions(table, kind, n_resamples=500).items()
        }
        for table in (table[table["split"] == "test"], test.assign(prediction=constant))
    )
    results = {
        "task": {"age": "brain_age"}.get(task, task),
        "kind": kind,
        "target": {"age": "age_years"}.get(task, task),
        "unit": "years" if task == "age" else None,
        "positive_class": None if task == "age" else "M",
        "protocol": protocol,
        "initialisation": initialisation,
        "n_test_scans": len(test),
        "n_test_subjects": test["subject_id"].nunique(),
        "scores": scores,
        "baseline": {
            "name": "mean of the training subjects" if task == "age" else "majority class",
            "prediction": constant,
            "scores": {k: None if v["value"] is None else v for k, v in baseline.items()},
        },
    }
    (path / "results.json").write_text(json.dumps(results))
    epochs, primary = np.arange(15), "mae" if task == "age" else "auroc"
    quality = scores[primary]["value"]
    curves = {
        "train/loss": 0.2 + np.exp(-epochs / 5),
        "val/loss": 0.35 + np.exp(-epochs / 6),
        f"val/{primary}": quality + (15 if task == "age" else -0.4) * np.exp(-epochs / 4),
    }
    write_common(
        path, curves, "downstream", results["task"], seed, weights, protocol == "linear_probe", simulated, dirty
    )


def pretraining_run(path, simulated=True, dirty=False):
    path.mkdir(parents=True)
    z, y, x = np.mgrid[-1:1:19j, -1:1:24j, -1:1:24j]
    r = np.sqrt((z / 0.8) ** 2 + (y / 0.9) ** 2 + (x / 0.75) ** 2)
    brain = np.where(r < 1, 0.4 + 0.5 * (np.sin(9 * r) > 0) + 0.2 * (x > 0.2), 0)  # brighter on the right
    original = np.stack([brain * s for s in (0.8, 0.9, 1.0)]).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.3, original.shape)
    standard = np.where(original > 0, (original - 0.7) / 0.2 + noise, 0).astype(np.float32)
    np.savez_compressed(path / "views.npz", original=original, view1=standard, view2=np.roll(standard, 2, axis=2))
    epochs = np.arange(40)
    curves = {
        "train/loss": 2.4 + 1.7 * np.exp(-epochs / 9),
        "val/loss": 2.6 + 1.5 * np.exp(-epochs / 9),
        "train/contrastive_accuracy": 0.7 - 0.68 * np.exp(-epochs / 12),
        "val/contrastive_accuracy": 0.6 - 0.58 * np.exp(-epochs / 12),
        "val/rankme": 20 - 12 * np.exp(-epochs / 10),
        "lr": 1e-3 * np.cos(epochs / 40),
    }
    write_common(path, curves, "pretraining", "simclr", 0, None, False, simulated, dirty)


def write_common(path, curves, stage, task, seed, weights, frozen, simulated, dirty):
    rows = [
        {"epoch": None if metric == "lr" else epoch, "step": 4 * epoch, "metric": metric, "value": value}
        for metric, values in curves.items()
        for epoch, value in enumerate(values)
    ]
    pd.DataFrame(rows).to_csv(path / "metrics.csv", index=False)
    experiment = path.name.partition("-")[0]
    facts = {
        "name": path.name,
        "status": "finished",
        "stage": stage,
        "command": f"python -m neuro_ssl.train +experiment={experiment} task={task} seed={seed}"
        + (f" weights=runs/{weights}" if weights else ""),
        "seed": seed,
        "started": "2025-01-02T03:04:05+00:00",
        "duration_s": 83.4,
        "dataset": {
            "cohort": "simulated" if simulated else "ixi",
            "simulated": simulated,
            "grid": "4mm",
            "store": "data/stores/simulated-4mm-1f2e3d4c",
            "preprocessing_hash": "1f2e3d4c",
            "manifest_hash": "5b6a7988",
            "n_scans": {"train": 108, "val": 36, "test": 43},
            "n_subjects": {"train": 90, "val": 30, "test": 36},
        },
        "encoder": {"name": "resnet18", "parameters_millions": 33.2},
        "task": task,
        "weights": {"name": weights, "path": f"runs/{weights}"} if weights else None,
        "frozen": frozen,
        "epochs": 15,
        "batch_size": 32,
        "versions": {"python": "3.11.9", "torch": "2.8.0", "lightning": "2.6.6", "neuro_ssl": "0.1.0"},
        "commit": "0123456789abcdef",
        "dirty": dirty,
        "hardware": {"machine": "x86_64", "cpus": 2, "gpus": []},
        "config": {"name": path.name, "seed": seed, "task": task},
    }
    (path / "run.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))


if __name__ == "__main__":
    write_runs(Path(sys.argv[1]))
