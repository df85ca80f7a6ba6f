import copy
import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch import nn

from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.linear_probe import linear_probe
from neuro_ssl.optim import Optimizer
from neuro_ssl.views.intensity import standardise

AGE = {"target": "age_years"}
SEX = {"target": "sex", "classes": ["F", "M"]}


class Octants(nn.Module):
    """An encoder without weights: mean and variance of each eighth of the volume, so that no seed is used up."""

    embed_dim = 16

    def __init__(self):
        super().__init__()

    def forward(self, volume):
        mean, square = (nn.functional.adaptive_avg_pool3d(volume**power, 2).flatten(1) for power in (1, 2))
        return torch.cat([mean, square - mean**2], dim=1)


@pytest.fixture(scope="module")
def octants(random_scans):
    volumes = torch.from_numpy(np.stack([random_scans.read(name) for name in random_scans.manifest["volume"]]))[:, None]
    return Octants()(standardise(volumes.float(), volumes > 0)).numpy()


def rows_of(store, split):
    return np.flatnonzero(store.manifest["split"] == split)


@pytest.mark.parametrize(
    ("task", "settings", "more"),
    [
        ("brain_age", AGE, ["optimizer.learning_rate=0.2"]),
        ("sex", SEX, ["optimizer.learning_rate=0.03"]),
        ("brain_age", AGE | {"standardise_target": False, "standardise_features": False}, ["optimizer.algorithm=adam"]),
    ],
    ids=["regression", "classification", "as the paper"],
)
def test_predicts_what_the_command_does(random_scans, octants, tmp_path, command, task, settings, more):
    (tmp_path / "conf" / "encoder").mkdir(parents=True)
    (tmp_path / "conf" / "encoder" / "octants.yaml").write_text(f"_target_: {__name__}.Octants\n")
    command(
        "train",
        *("--config-dir", tmp_path / "conf", "+experiment=linear_probe", f"task={task}", "encoder=octants", "seed=3"),
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={random_scans.path.parents[2]}", "logger=csv"),
        *("strategy=cpu", f"runs_dir={tmp_path}", "batch_size=3", "trainer.max_epochs=8", *more),
        *(f"task.{key}={value}" for key, value in settings.items() if key.startswith("standardise")),
    )
    expected = pd.read_parquet(next(tmp_path.glob("linear_probe-*/predictions.parquet"))).set_index("scan_id")

    manifest = random_scans.manifest
    target = manifest["age_years"] if task == "brain_age" else manifest["sex"] == "M"
    values = dict(option.removeprefix("optimizer.").split("=") for option in more)
    rate = {"learning_rate": float(values.get("learning_rate", 0.01))}
    probe = linear_probe(
        settings,
        octants,
        target,
        *(rows_of(random_scans, split) for split in ("train", "val")),
        optimizer=Optimizer(algorithm=values.get("algorithm", "adamw"), **rate),
        seed=3,
        max_epochs=8,
        batch_size=3,
    )
    predictions = pd.Series(probe(octants), manifest["scan_id"])[expected.index]
    assert len(expected) == 6 and expected["prediction"].std() > 1e-3
    assert probe.epoch > 0  # the same epoch was chosen, and it is not the first
    np.testing.assert_allclose(predictions, expected["prediction"], atol=1e-5)


def cohort(n=200, n_features=20):
    random = np.random.default_rng(0)
    features = random.normal(size=(n, n_features)) * np.linspace(1, 3, n_features) + 5
    signal = (features - 5) @ random.normal(size=n_features) / 5
    return features, signal + random.normal(size=n), np.arange(n) < 140, np.arange(n) >= 140


@pytest.mark.parametrize("settings", [AGE, SEX], ids=["regression", "classification"])
def test_ends_near_the_regression_that_it_approaches(settings):
    """Full batches and no decay: gradient descent goes to what scikit-learn solves for."""
    features, score, train, _ = cohort()
    target = (score > 0).astype(float) if "classes" in settings else 60 + 10 * score
    probe = linear_probe(
        settings,
        *(features, target, train, train),
        optimizer=Optimizer(learning_rate=0.05, weight_decay=0.0),
        max_epochs=300,
        batch_size=140,
    )
    x = StandardScaler().fit(features[train]).transform(features)
    if "classes" in settings:
        oracle = LogisticRegression(C=1e6).fit(x[train], target[train]).decision_function(x)
        assert np.corrcoef(np.log(probe(features) / (1 - probe(features))), oracle)[0, 1] > 0.97
    else:
        oracle = Ridge(1e-6).fit(x[train], target[train]).predict(x)
        assert np.abs(probe(features) - oracle).max() < 0.05 * np.std(oracle)


def test_the_epoch_is_the_best_on_validation():
    """Noise to learn from: what is learnt by heart is worse on the others, and the end is not the best."""
    features, _, train, val = cohort(60, 50)
    target = np.random.default_rng(1).normal(size=60)
    train, val = np.arange(60) < 30, np.arange(60) >= 30
    fit = {"optimizer": Optimizer(learning_rate=0.05, weight_decay=0.0, schedule="constant", warmup_fraction=0.0)}
    fit["batch_size"] = 8
    errors = []
    for n in range(1, 13):  # a constant rate: a shorter training is the beginning of a longer one
        probe = linear_probe(AGE, features, target, train, val, max_epochs=n, **fit)
        errors.append(np.mean((probe(features)[val] - target[val]) ** 2) / np.var(target[train]))
        assert probe.score == pytest.approx(errors[-1], rel=1e-4)
        assert errors[-1] == min(errors)
    assert probe.epoch < 11


def test_is_its_seeds_alone_and_leaves_the_random_state():
    features, target, *_ = cohort(50)
    train, val = np.arange(30), np.arange(30, 50)
    settings = {"optimizer": Optimizer(learning_rate=0.01), "max_epochs": 3, "batch_size": 16}
    state = torch.get_rng_state()
    first, again, other = (linear_probe(AGE, features, target, train, val, seed=s, **settings) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (first(features) == again(features)).all()
    assert not np.allclose(first(features), other(features))
    assert (copy.deepcopy(first)(features) == first(features)).all()


def test_takes_moments(capfd):
    features, target, train, val = cohort(200, 512)
    start = time.perf_counter()
    linear_probe(AGE, features, target, train, val, optimizer=Optimizer(learning_rate=0.01))
    assert time.perf_counter() - start < 10  # 0.3 s on an idle core
    assert capfd.readouterr() == ("", "")


def test_refuses():
    features, target, _, _ = cohort(20)
    train = np.arange(20) < 10
    fit = {"optimizer": Optimizer(), "max_epochs": 1}
    with pytest.raises(InputError, match="split=val; there are none"):
        linear_probe(AGE, features, target, train, np.zeros(20, bool), **fit)
    with pytest.raises(InputError, match="split=val holds one class alone"):
        linear_probe(SEX, features, np.arange(20) % 2 * train, train, ~train, **fit)
    with pytest.raises(InputError, match="finite"):
        linear_probe(AGE, features * np.nan, target, train, ~train, **fit)
