"""Frozen features of every pretrained encoder, and of untrained ones, on brain age and sex.

    python experiments/representations/probe.py WORK

WORK is the folder that `run.sh` made. A ridge or logistic regression on standardised features, its penalty chosen
inside the training folds. Simulated scans: fitted to the training split, scored on the test split. Real scans: tenfold
cross-validation by subject, all predictions scored together. 95 % intervals by bootstrap over subjects; differences to
the untrained encoder of the same kind are paired.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuro_ssl import load_encoder
from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.evaluation.scores import difference, score_predictions
from neuro_ssl.views.intensity import standardise

TASKS = {"brain age": ("regression", "mae"), "sex": ("classification", "auroc")}
UNTRAINED_SEEDS = (0, 1, 2)
QUANTILES = np.linspace(0.05, 0.95, 10)


def features(encoder, store):
    """(scans, features) of an encoder; without one, brain volume and intensity quantiles, or nothing."""
    if encoder == "nothing":
        return np.zeros((len(store.manifest), 1))
    rows = []
    for name in store.manifest["volume"]:
        volume = store.read(name).astype(np.float32)
        if encoder is None:
            brain = volume[volume > 0]
            rows.append([brain.size, *np.quantile(brain, QUANTILES)])
        else:
            volume = torch.from_numpy(volume)[None, None]
            with torch.inference_mode():
                rows.append(encoder(standardise(volume, volume > 0))[0].numpy())
    return np.asarray(rows, dtype=np.float64)


def untrained(weights, seed):
    """An encoder like that of the weights, as it was before training."""
    torch.manual_seed(seed)
    return instantiate(Weights.load(str(weights)).encoder, _convert_="all").eval()


def predict(kind, x, y, train, test):
    """Fit to some rows, predict others."""
    if kind == "regression":
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)))
        return model.fit(x[train], y[train]).predict(x[test])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    logistic = LogisticRegressionCV(Cs=np.logspace(-5, 1, 7), cv=folds, scoring="roc_auc", max_iter=2000)
    with warnings.catch_warnings():
        for tiresome in (ConvergenceWarning, FutureWarning):
            warnings.simplefilter("ignore", tiresome)
        return make_pipeline(StandardScaler(), logistic).fit(x[train], y[train]).predict_proba(x[test])[:, 1]


def predictions(kind, x, store):
    """A table of predictions: of the test split, or, where there is none, by tenfold cross-validation."""
    scans = store.manifest
    y = scans["age_years"].to_numpy(float) if kind == "regression" else (scans["sex"] == "M").to_numpy(float)
    table = scans[["scan_id", "subject_id"]].assign(target=y, prediction=np.nan)
    split = scans["split"].to_numpy()
    if (split == "test").any():
        healthy = (scans["diagnosis"] == "CN").to_numpy()  # age and sex as they are without disease
        train, test = np.flatnonzero((split == "train") & healthy), np.flatnonzero((split == "test") & healthy)
        table.loc[test, "prediction"] = predict(kind, x, y, train, test)
        return table.iloc[test]
    folds = KFold(10, shuffle=True, random_state=0) if kind == "regression" else StratifiedKFold(10, shuffle=True)
    if kind == "classification":
        folds.random_state = 0
    for train, test in folds.split(x, y):
        table.loc[test, "prediction"] = predict(kind, x, y, train, test)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    stores = {name: VolumeStore.find(work / "data" / "stores" / name, "6mm") for name in ("simulated", "ixi")}
    runs = sorted(path.parent for path in (work / "runs").glob("*_pretrain-*/run.yaml"))
    models, like = {"the mean, or chance": "nothing", "brain volume and intensities": None}, {}
    for run in runs:
        found = Weights.load(str(run))
        family = found.encoder["_target_"].rpartition(".")[2]
        method = run.name.partition("_pretrain")[0]
        for seed in UNTRAINED_SEEDS:
            models.setdefault(f"{family}, untrained, seed {seed}", untrained(run, seed))
        models[f"{family}, {method}"] = load_encoder(run)
        like[f"{family}, {method}"] = f"{family}, untrained, seed 0"

    rows = []
    for cohort, store in stores.items():
        tables = {}
        for name, encoder in models.items():
            x = features(encoder, store)
            for task, (kind, metric) in TASKS.items():
                table = tables[name, task] = predictions(kind, x, store)
                score = score_predictions(table, kind)[metric]
                rows.append({"cohort": cohort, "model": name, "task": task, "metric": metric, **vars(score)})
        for name, reference in like.items():
            for task, (kind, metric) in TASKS.items():
                gain = difference(tables[name, task], tables[reference, task], kind, metric)
                row = next(r for r in rows if (r["cohort"], r["model"], r["task"]) == (cohort, name, task))
                row["minus_untrained"] = [gain.value, gain.low, gain.high]
    (work / "probe.json").write_text(json.dumps(rows, indent=1))

    for cohort, store in stores.items():
        table = pd.DataFrame([row for row in rows if row["cohort"] == cohort])
        n = len(predictions("regression", np.zeros((len(store.manifest), 1)), store))
        print(f"\n{cohort}, {n} scans scored\n")
        print(
            "| model | brain age, MAE in years | less untrained | sex, AUROC | less untrained |\n|---|---|---|---|---|"
        )
        for name, both in table.groupby("model", sort=False):
            cells = []
            for _, row in both.iterrows():
                cells.append(f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
                gain = row.get("minus_untrained")
                cells.append("" if not isinstance(gain, list) else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*gain))
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
