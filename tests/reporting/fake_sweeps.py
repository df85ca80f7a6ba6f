"""A sweep as training leaves it: the records of its points, and the least of their runs that a table needs."""

import json

import yaml
from fake_runs import write_common

from neuro_ssl.points import Point

SWEEP = "2026-01-02_03-04-05"
# Validation loss and test MAE by learning rate, one a seed.
SCORES = {
    "0.01": ([0.52, 0.47, 0.55], [5.1, 5.4, 4.9]),
    "0.003": ([0.41, 0.44, 0.39], [6.1, 6.3, 6.2]),  # best on validation, worst on test
    "0.001": ([0.60, 0.58], [5.6, 5.5]),
}


def write_sweep(runs_dir, name=SWEEP, *, tested=True, scores=SCORES, command=("optimizer.learning_rate=…",)):
    """A point a score; those of 0.001 lack the third seed, whose process was killed; 1.0 failed."""
    sweep = runs_dir / ".sweeps" / name
    settings = [(rate, seed, i) for rate, values in scores.items() for seed, i in enumerate(values[0])]
    for number, (rate, seed, _) in enumerate(settings):
        validation, test = scores[rate][0][seed], scores[rate][1][seed]
        run = write_run(runs_dir / f"from_scratch-brain_age-{rate}-{seed}", validation, test if tested else None, seed)
        note(sweep, number, rate, seed, status="finished", run=run)
    killed = runs_dir / "from_scratch-brain_age-killed"
    killed.mkdir(parents=True, exist_ok=True)
    (killed / "run.yaml").write_text(yaml.safe_dump({"name": killed.name, "status": "running"}))
    note(sweep, len(settings), "0.001", 2, run=killed)
    note(sweep, len(settings) + 1, "1.0", 0, status="failed", reason="the loss is nan\nat step 3")
    record = {"hydra": {"overrides": {"task": list(command)}}}
    (sweep / "multirun.yaml").write_text(yaml.safe_dump(record))
    return sweep


def note(sweep, number, rate, seed, **outcome):
    overrides = ["+experiment=from_scratch", "dataset.root=/data/secret/cohort", f"seed={seed}"]
    Point(sweep, number, [*overrides, f"optimizer.learning_rate={rate}"]).note(**{"status": "running", **outcome})


def write_run(path, validation, test, seed):
    path.mkdir(parents=True, exist_ok=True)
    write_common(path, {"val/loss": [validation]}, "downstream", "brain_age", seed, None, False, True, False)
    record = yaml.safe_load((path / "run.yaml").read_text())
    record["dataset"]["cohort"] = "c"
    record |= {
        "test_opened": [] if test is None else ["2026-01-02T03:04:05+00:00"],
        "validation": {"metric": "val/loss", "value": validation},
        "config": {"seed": seed, "task": {"target": "age_years"}},
    }
    (path / "run.yaml").write_text(yaml.safe_dump(record))
    if test is not None:
        scores = {"mae": {"value": test, "low": test - 0.5, "high": test + 0.7}}
        (path / "results.json").write_text(json.dumps({"kind": "regression", "unit": "years", "scores": scores}))
    return path
