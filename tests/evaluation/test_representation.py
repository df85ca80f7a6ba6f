"""What is said of embeddings, against plain float64 and scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import mean_absolute_error, pairwise, roc_auc_score
from sklearn.preprocessing import normalize

from neuro_ssl.evaluation.probes import fit_probe
from neuro_ssl.evaluation.representation import (
    alignment,
    contrastive_accuracy,
    label_scores,
    rankme,
    spread,
    uniformity,
)


def views(n=40, width=6, noise=1.0, seed=0):
    """Two noisy views of n scans, float64."""
    rng = np.random.default_rng(seed)
    scan = rng.normal(size=(n, width)) + 0.5
    return [scan + noise * rng.normal(size=(n, width)) for _ in range(2)]


def both_types(function, expected, *arrays):
    """In float64 to its digits, and in the float32 that training has."""
    assert float(function(*map(torch.tensor, arrays))) == pytest.approx(expected, abs=1e-9)
    halves = [torch.tensor(array).float() if array.dtype == float else torch.tensor(array) for array in arrays]
    assert float(function(*halves)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_rankme_is_the_perplexity_of_the_singular_values():
    embedding = views()[0] * [1, 1, 0.3, 0.1, 1e-3, 0]
    both_types(rankme, math.exp(entropy(np.linalg.svd(embedding, compute_uv=False))), embedding)


def test_rankme_counts_dimensions():
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 6)))[0]
    both_types(rankme, 6, orthogonal)
    both_types(rankme, 3, orthogonal * [1, 1, 1, 0, 0, 0])
    assert float(rankme(torch.ones(40, 6))) == pytest.approx(1, abs=1e-4)
    assert float(rankme(torch.zeros(40, 6))) == pytest.approx(1, abs=1e-4)


def test_spread():
    embedding = views()[0]
    both_types(spread, normalize(embedding).std(axis=0, ddof=1).mean() * math.sqrt(6), embedding)
    random = torch.randn(500, 256, generator=torch.Generator().manual_seed(0))
    assert float(spread(random)) == pytest.approx(1, abs=0.02)


def test_alignment_and_uniformity():
    first, second = views()
    x, y = normalize(first), normalize(second)
    both_types(alignment, np.mean(np.linalg.norm(x - y, axis=1) ** 2), first, second)
    squares = pairwise.euclidean_distances(x, squared=True)[np.triu_indices(len(x), 1)]
    both_types(uniformity, np.log(np.mean(np.exp(-2 * squares))), first)
    assert float(alignment(torch.tensor(first), 3 * torch.tensor(first))) == pytest.approx(0, abs=1e-12)
    assert float(uniformity(torch.ones(5, 3))) == pytest.approx(0, abs=1e-6)
    far = torch.randn(400, 512, generator=torch.Generator().manual_seed(0))
    assert float(uniformity(far)) == pytest.approx(-4, abs=0.05)


def hits_one_by_one(first, second, subject):
    """Of each view: is its partner nearer than everything of other subjects?"""
    views = [(i, z / np.linalg.norm(z)) for side in (first, second) for i, z in enumerate(side)]
    hits = []
    for a, (scan, z) in enumerate(views):
        (partner,) = [w @ z for b, (other, w) in enumerate(views) if other == scan and b != a]
        hits.append(all(w @ z < partner for other, w in views if subject[other] != subject[scan]))
    return np.mean(hits)


@pytest.mark.parametrize("noise", [0.1, 0.7, 2.0])
def test_contrastive_accuracy(noise):
    first, second = views(noise=noise)
    subject = np.arange(40) // 2  # two scans each
    expected = hits_one_by_one(first, second, subject)
    both_types(contrastive_accuracy, expected, first, second, subject)
    assert expected == 1 if noise == 0.1 else 0 < expected < 0.9


def test_contrastive_accuracy_leaves_out_the_same_subject_and_knows_a_collapse():
    first, second = views(n=6, noise=0.01)
    first[1::2], second[1::2] = second[::2], first[::2]  # each second scan is nearer than the partner
    twice, once = np.arange(6) // 2, np.arange(6)
    assert float(contrastive_accuracy(torch.tensor(first), torch.tensor(second), torch.tensor(twice))) == 1
    assert float(contrastive_accuracy(torch.tensor(first), torch.tensor(second), torch.tensor(once))) < 0.5
    same = torch.ones(6, 4)
    assert float(contrastive_accuracy(same, same, torch.arange(6))) == 0


def labelled(n, seed, **columns):
    """Features in which age and sex can be seen, and their scans: two of each subject."""
    rng = np.random.default_rng(seed)
    subject = np.arange(n) // 2
    age, sex = rng.uniform(20, 90, n)[subject], rng.integers(0, 2, n)[subject]
    features = rng.normal(size=(n, 8))
    features[:, 0] += age / 5
    features[:, 1] += 2 * sex
    scans = {"subject": subject, "age_years": age, "sex": np.where(sex, "M", "F"), **columns}
    return torch.tensor(features).float(), pd.DataFrame(scans)


def test_scores_are_of_probes_of_the_training_scans_on_the_validation_scans():
    (x, train), (val_x, val) = labelled(80, 0), labelled(60, 1)
    train.loc[::7, "age_years"] = np.nan  # some labels are missing, each in rows of its own
    val.loc[::5, "sex"] = None
    scores = label_scores(x, train, val_x, val)
    assert set(scores) == {"age_years_ridge_mae", "age_years_knn_mae", "sex_logistic_auroc", "sex_knn_auroc"}
    rows, val_rows = train["age_years"].notna(), val["sex"].notna()
    for short in ("ridge", "knn"):
        predict = fit_probe(
            f"{short}_probe",
            "regression",
            x.double().numpy()[rows],
            train["age_years"].to_numpy()[rows],
            train["subject"].to_numpy()[rows],
        )
        expected = mean_absolute_error(val["age_years"], predict(val_x.double().numpy()))
        assert scores[f"age_years_{short}_mae"] == pytest.approx(expected)
        assert expected < 12  # the mean: about 17
    for short in ("logistic", "knn"):
        sex = (train["sex"] == "M").to_numpy(float)
        of = (f"{short}_probe", "classification", x.double().numpy(), sex, train["subject"].to_numpy())
        predicted = fit_probe(*of)(val_x.double().numpy()[val_rows])
        expected = roc_auc_score((val["sex"] == "M")[val_rows], predicted)
        assert scores[f"sex_{short}_auroc"] == pytest.approx(expected, abs=1e-3)
        assert expected > 0.7


def test_each_diagnosis_is_told_from_the_controls():
    train_labels = ["CN"] * 30 + ["MCI"] * 40 + ["AD"] * 20 + ["FTD"] * 4 + [None] * 6
    val_labels = ["CN"] * 20 + ["MCI"] * 14 + ["AD"] * 10 + ["FTD"] * 16
    (x, train), (val_x, val) = labelled(100, 0, diagnosis=train_labels), labelled(60, 1, diagnosis=val_labels)
    scores = label_scores(x, train, val_x, val)
    told = {name for name in scores if name.startswith("diagnosis")}
    assert told == {f"diagnosis_{label}_{probe}_auroc" for label in ("AD", "MCI") for probe in ("logistic", "knn")}
    train["diagnosis"], val["diagnosis"] = (s["diagnosis"].replace("CN", "healthy") for s in (train, val))
    told = {name for name in label_scores(x, train, val_x, val) if name.startswith("diagnosis")}
    assert told == {f"diagnosis_{label}_{probe}_auroc" for label in ("AD", "healthy") for probe in ("logistic", "knn")}


def few_subjects(scans):
    scans.loc[18:, ["age_years"]] = np.nan
    scans["sex"] = scans["sex"].where(scans["subject"] < 9)


def one_class(scans):
    scans["sex"] = "F"
    scans["age_years"] = np.nan


def rare_class(scans):
    scans["sex"] = np.where(scans["subject"] < 4, "M", "F")
    scans["age_years"] = np.nan


def no_columns(scans):
    scans.drop(columns=["age_years", "sex"], inplace=True)


@pytest.mark.parametrize("spoilt", [0, 1])
@pytest.mark.parametrize("spoil", [few_subjects, one_class, rare_class, no_columns])
def test_nothing_is_said_of_too_few_labels_in_either_split(spoil, spoilt):
    (x, train), (val_x, val) = labelled(60, 0), labelled(60, 1)
    assert len(label_scores(x, train, val_x, val)) == 4
    spoil((train, val)[spoilt])
    assert label_scores(x, train, val_x, val) == {}
