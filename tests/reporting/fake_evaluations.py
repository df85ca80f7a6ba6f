"""An evaluation as `evaluate` leaves it, of made-up predictions: tables and record by the code that writes real ones.

`python tests/reporting/fake_evaluations.py DIR`
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from neuro_ssl.data.targets import Target
from neuro_ssl.environment import environment
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.record import EvaluationDirectory
from neuro_ssl.evaluating.statistics import Statistics
from neuro_ssl.evaluating.summary import summarise

TARGETS = (
    Target(
        name="brain_age",
        target="age_years",
        unit="years",
        reference={"cohort": "ixi", "metric": "mae", "fine_tuned": 4.35},
    ),
    Target(name="sex", target="sex", classes=("F", "M")),
)
VOLUME, SCRATCH = "brain volume + intensity quantiles", "from scratch, resnet18 encoder.width=8"
MODELS = (
    Model("none: mean or majority", "constant", {}),
    Model(VOLUME, "image_statistics", {}),
    Model("untrained resnet18", "untrained", {}),
    Model(SCRATCH, "from_scratch", {}),
    Model("ours", "pretrained", {}, untrained="untrained resnet18"),
    Model("theirs", "pretrained", {}, untrained="untrained resnet18"),
)
# Noise of each line's predictions, in standard deviations of the target: frozen, and trained.
NOISE = {
    "constant": (0.0, None),
    "image_statistics": (0.9, None),
    "untrained": (3.0, None),
    "from_scratch": (None, 0.4),
    "ours": (0.9, 0.4),
    "theirs": (3.0, 2.5),
}
DISJOINT = {"verdict": "disjoint", "n_subjects": {"val": 0, "test": 0}}


def write_evaluation(
    runs_dir,
    *,
    cohort="own",
    simulated=True,
    noise=NOISE,
    n_persons=40,
    test_set="test",
    targets=TARGETS,
    models=MODELS,
    fractions=(0.5, 1.0),
    leakage=DISJOINT,
    learnt_from=(),
    left_out=(),
    digits="0",
    finished=True,
):
    """The folder of the results."""
    random = np.random.default_rng(0)
    scans = people(n_persons, random)
    statistics = Statistics(n_resamples=100, n_permutations=1000)
    wanted = {f"{target.name}/{test_set}": digits for target in targets}
    directory = EvaluationDirectory(runs_dir / f"evaluation-{cohort}-1a2b3c4d", wanted, digits)
    directory.begin(about(models, targets, scans, cohort, simulated, test_set, leakage, learnt_from, left_out))
    if not finished:
        return directory.results
    predictions = pd.concat(
        line
        for target in targets
        for model in models
        for line in predictions_of(scans, target, model, noise, test_set, fractions, random)
    )
    tables = summarise(predictions, targets, models, statistics)
    tables |= stability(cohort, models)
    directory.write("predictions.parquet", predictions)
    for name, table in tables.items():
        directory.write(f"{name}.csv", table)
    directory.finish(60)
    return directory.results


def people(n, random):
    """Validation and test persons, of whom every second one has a retest."""
    person = np.concatenate([np.arange(2 * n), np.arange(0, 2 * n, 2)])
    session = np.repeat([0, 1], [2 * n, n])
    return pd.DataFrame(
        {
            "scan_id": [f"secret-{p}-{s}" for p, s in zip(person, session, strict=True)],
            "subject_id": [f"own/secret-{p}" for p in person],
            "session_id": session.astype(str),
            "age_years": random.uniform(20, 80, 2 * n)[person],
            "sex": np.array(["F", "M"])[person % 2 ^ (person % 7 == 0)],
            "site": np.array(["north", "south"])[person // 2 % 2],
            "scanner": np.array(["1", "2"])[session * (person % 4 == 0)],
            "split": np.array(["val", "test"])[(person >= n).astype(int)],
        }
    )


def predictions_of(scans, target, model, noise, test_set, fractions, random):
    """A table a protocol and share of the labels."""
    frozen = "logistic_probe" if target.classes else "ridge_probe"
    trained = "from_scratch" if model.role == "from_scratch" else "finetune"
    truth = (scans["sex"] == "M").astype(float) if target.classes else scans["age_years"]
    z = (truth - truth.mean()) / truth.std()
    own = noise.get(model.name, noise.get(model.role))
    for protocol, spread in zip(("constant" if model.role == "constant" else frozen, trained), own, strict=True):
        for fraction in fractions if spread is not None else ():
            for seed in range(2 if model.role == "untrained" else 1):
                shrunk = z * (model.role != "constant") + spread / fraction * random.standard_normal(len(z))
                predicted = 1 / (1 + np.exp(-shrunk)) if target.classes else 50 + 12 * shrunk
                yield scans.assign(
                    target=truth,
                    prediction=predicted,
                    fraction=fraction,
                    n_train=round(100 * fraction),
                    seed=seed,
                    label_seed=0,
                    repeat=0,
                    fold=pd.array([pd.NA] * len(z), "Int64"),
                    replicate=f"{seed}/0/0",
                    task=target.name,
                    test_set=test_set,
                    model=model.name,
                    role=model.role,
                    protocol=protocol,
                )


def stability(cohort, models):
    """As `neuro_ssl.evaluating.stability` writes them, which takes seconds."""
    encoders = [model for model in models if model.role in ("image_statistics", "untrained", "pretrained")]
    reliability, site = [], []
    for place, model in enumerate(encoders):
        line = {"cohort": cohort, "model": model.name}
        for pairs in ("same scanner", "another scanner"):
            value = 0.5 + place / 10
            score = {"n_pairs": 20, "n_subjects": 20, "value": value, "low": value - 0.2, "high": value + 0.2}
            for what in ("embedding, all features together", "embedding, median feature"):
                reliability.append(line | {"what": what, "pairs": pairs} | score)
        counts = {"column": "site", "n_groups": 2, "n_subjects": 40, "left_out": "east"}
        site.append(line | counts | {"value": 0.6, "low": 0.5, "high": 0.7, "chance": 0.5})
    return {"reliability": pd.DataFrame(reliability), "site": pd.DataFrame(site)}


def about(models, targets, scans, cohort, simulated, test_set, leakage, learnt_from, left_out):
    """What `Evaluation` notes beside command and times."""
    counts = scans.groupby("split")["scan_id"].count().to_dict()
    subjects = scans.groupby("split")["subject_id"].nunique().to_dict()
    return {
        "models": [
            {
                "name": model.name,
                "role": model.role,
                "weights": [f"runs/{model.name}"] if model.role == "pretrained" else [],
                "grid": "4mm",
                "leakage": {test_set: dict(leakage if model.name == "ours" else DISJOINT)},
                "learnt_from": list(learnt_from) if model.name == "ours" else [],
            }
            for model in models
        ],
        "targets": [target.model_dump(mode="json") for target in targets],
        "data": {
            cohort: {
                **{"cohort": cohort, "simulated": simulated, "grid": "4mm", "store": f"data/stores/{cohort}"},
                **{"preprocessing_hash": "0a0a0a0a", "manifest_hash": "1b1b1b1b", "split_hash": "2c2c2c2c"},
                **{"n_scans": counts, "n_subjects": subjects},
            }
        },
        "left_out": {cohort: list(left_out)} if left_out else {},
        **environment(),
        "config": {"tasks": [target.name for target in targets]},
    }


if __name__ == "__main__":
    print(write_evaluation(Path(sys.argv[1])))
