import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.comparisons import compare, holm
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.evaluation.scores import difference


def predictions(kind, n=40, scans=1, seed=0, noise=1.0, targets=0, **columns):
    """`targets`: seed of the scans, `seed`: of the model."""
    truth, rng = np.random.default_rng(targets), np.random.default_rng([seed, 1])
    subject = np.repeat(np.arange(n), scans)
    if kind == "classification":
        target = (subject + (truth.random(len(subject)) < 0.2)) % 2 if scans > 1 else subject % 2
        brain = truth.normal(size=n)[subject]
        prediction = norm.cdf(target + brain + noise * rng.normal(size=len(subject)))
    else:
        target = truth.uniform(20, 90, n)[subject]
        prediction = target + 5 * truth.normal(size=n)[subject] + 5 * noise * rng.normal(size=len(subject))
    ids = [f"c/{s:04d}" for s in subject]
    scan_ids = [f"{i}_{k}" for k, i in enumerate(ids)]
    table = {"scan_id": scan_ids, "subject_id": ids, "target": target, "prediction": prediction}
    return pd.DataFrame(table | columns)


def naive_p(a, b):
    """Obuchowski 1997 by loops: covariances of two models' AUROCs, clusters being subjects. a, b: tables, same rows."""
    rows = list(zip(a["subject_id"], a["target"], a["prediction"], b["prediction"], strict=True))
    cases, controls = ([r for r in rows if r[1] == k] for k in (1, 0))

    def wins(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    auc = [np.mean([wins(x[m], y[m]) for x in cases for y in controls]) for m in (2, 3)]
    v10 = [(x[0], [np.mean([wins(x[m], y[m]) for y in controls]) for m in (2, 3)]) for x in cases]
    v01 = [(y[0], [np.mean([wins(x[m], y[m]) for x in cases]) for m in (2, 3)]) for y in controls]
    subjects = sorted(set(a["subject_id"]))

    def sums(parts):
        return {s: [sum(v[m] - auc[m] for who, v in parts if who == s) for m in (0, 1)] for s in subjects}

    def clusters(parts):
        return len({who for who, _ in parts})

    x, y, m_cases, n_controls = sums(v10), sums(v01), len(cases), len(controls)
    i10, i01, i = clusters(v10), clusters(v01), len(subjects)
    covariance = np.zeros((2, 2))
    for r, s in itertools.product((0, 1), (0, 1)):
        s10 = i10 / ((i10 - 1) * m_cases) * sum(x[k][r] * x[k][s] for k in subjects)
        s01 = i01 / ((i01 - 1) * n_controls) * sum(y[k][r] * y[k][s] for k in subjects)
        s11 = i / (i - 1) * sum(x[k][r] * y[k][s] for k in subjects)
        s11_other = i / (i - 1) * sum(x[k][s] * y[k][r] for k in subjects)
        covariance[r, s] = s10 / m_cases + s01 / n_controls + (s11 + s11_other) / (m_cases * n_controls)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return 2 * norm.sf(abs(auc[0] - auc[1]) / variance**0.5)


@pytest.mark.parametrize(("scans", "test"), [(1, "DeLong"), (3, "clustered DeLong")])
def test_auroc_against_the_formulas_by_loops(scans, test):
    a = predictions("classification", scans=scans, noise=0.5)
    b = predictions("classification", scans=scans, noise=1.5, seed=1).round({"prediction": 1})  # with ties
    result = compare(a, b.sample(frac=1, random_state=0), "classification", "auroc", n_resamples=99)
    assert result.test == test
    assert result.p == pytest.approx(naive_p(a, b), rel=1e-9)
    assert 1e-3 < result.p < 0.5
    assert result.value == pytest.approx(
        roc_auc_score(a["target"], a["prediction"]) - roc_auc_score(b["target"], b["prediction"])
    )
    delta = difference(a, b, "classification", "auroc", n_resamples=99)
    assert (result.low, result.high) == (delta.low, delta.high)


def test_delong_of_unpaired_scans_by_its_textbook_form():
    # Against a constant, whose AUROC is 0.5 without error, DeLong's variance is that of one AUROC.
    a = predictions("classification", noise=2.5)
    placements = [
        (a["prediction"][a["target"] == 1].to_numpy()[:, None] > a["prediction"][a["target"] == 0].to_numpy()).mean(
            axis
        )
        for axis in (1, 0)
    ]
    variance = sum(v.var(ddof=1) / len(v) for v in placements)
    p = 2 * norm.sf(abs(placements[0].mean() - 0.5) / variance**0.5)
    assert compare(a, a.assign(prediction=0.3), "classification", "auroc", n_resamples=99).p == pytest.approx(p)


def test_copies_of_scans_are_no_evidence():
    a, b = (predictions("classification", noise=noise, seed=seed) for noise, seed in ((0.5, 0), (1.5, 1)))
    thrice = [pd.concat([t.assign(scan_id=t["scan_id"] + str(k)) for k in range(3)]) for t in (a, b)]
    p, p_thrice = (compare(*t, "classification", "auroc", n_resamples=99).p for t in ((a, b), thrice))
    assert p_thrice == pytest.approx(p)


def all_swaps(a, b, score):
    """P value by trying every exchange of subjects' predictions; a, b: predictions (subjects,)."""
    observed = abs(score(a) - score(b))
    swaps = itertools.product((False, True), repeat=len(a))
    null = [score(np.where(s, b, a)) - score(np.where(s, a, b)) for s in swaps]
    return np.mean(np.abs(null) >= observed - 1e-12)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("regression", "mae"),
        ("regression", "rmse"),
        ("regression", "r2"),
        ("classification", "brier"),
        ("classification", "balanced_accuracy"),
        ("classification", "average_precision"),
    ],
)
def test_permutation_against_every_exchange(kind, metric):
    a, b = (predictions(kind, n=8, noise=noise, seed=seed) for noise, seed in ((0.3, 0), (1.5, 1)))
    target = a["target"].to_numpy()

    def score(prediction):
        error = prediction - target
        return {
            "mae": lambda: np.abs(error).mean(),
            "rmse": lambda: (error**2).mean() ** 0.5,
            "r2": lambda: 1 - (error**2).sum() / ((target - target.mean()) ** 2).sum(),
            "brier": lambda: (error**2).mean(),
            "balanced_accuracy": lambda: np.mean([((prediction >= 0.5) == k)[target == k].mean() for k in (0, 1)]),
            "average_precision": lambda: average_precision_score(target, prediction),
        }[metric]()

    inputs = [t["prediction"].to_numpy() for t in (a, b)]
    if metric == "average_precision":  # ranks are what can be exchanged
        inputs = [p.argsort().argsort() for p in inputs]
    result = compare(a, b, kind, metric, n_resamples=99)
    assert result.test == "permutation"
    assert result.p == pytest.approx(all_swaps(*inputs, score), abs=1e-12)
    sampled = compare(a, b, kind, metric, n_resamples=99, n_permutations=1000)
    assert sampled.p == pytest.approx(result.p, abs=0.05)
    assert sampled == compare(a, b, kind, metric, n_resamples=99, n_permutations=1000)
    assert compare(b, a, kind, metric, n_resamples=99).p == pytest.approx(result.p)


def test_subjects_are_exchanged_whole():
    a, b = (predictions("regression", n=12, noise=noise, seed=seed) for noise, seed in ((0.4, 0), (1.5, 1)))
    tables = [pd.concat([t.assign(scan_id=t["scan_id"] + str(k)) for k in range(4)]) for t in (a, b)]
    for metric in ("mae", "rmse"):  # both ways of exchanging
        once = compare(a, b, "regression", metric, n_resamples=99)
        again = compare(*tables, "regression", metric, n_resamples=99)
        assert again.p == pytest.approx(once.p)
        assert 0.001 < once.p < 0.5


def replicated(kind, seeds, **options):
    return pd.concat([predictions(kind, seed=seed, **options).assign(replicate=f"seed {seed}") for seed in seeds])


def test_one_model_against_five_seeds_of_another():
    a = predictions("classification", noise=0.3)
    seeds = replicated("classification", range(1, 6), noise=2)
    result = compare(a, seeds, "classification", "auroc", n_resamples=99)
    each = [compare(a, part, "classification", "auroc", n_resamples=99) for _, part in seeds.groupby("replicate")]
    assert result.value == pytest.approx(np.mean([c.value for c in each]))
    assert result.test == "DeLong"
    assert result.p < np.median([c.p for c in each])  # the mean of five seeds has less noise than one
    same = pd.concat([predictions("classification", seed=1, noise=2).assign(replicate=k) for k in range(5)])
    assert compare(a, same, "classification", "auroc", n_resamples=99).p == pytest.approx(
        compare(a, same[same["replicate"] == 0], "classification", "auroc", n_resamples=99).p
    )

    brier = compare(a, seeds, "classification", "brier", n_resamples=99)
    losses = [(t["prediction"] - t["target"]) ** 2 for t in (a, *(part for _, part in seeds.groupby("replicate")))]
    assert brier.value == pytest.approx(losses[0].mean() - np.mean(losses[1:]))
    assert brier.test == "permutation"
    assert brier.p < 0.05


@pytest.mark.parametrize(("seeds_a", "seeds_b"), [((0, 1), (2, 3)), ((0,), (2, 3, 4))])
def test_replicates_are_exchanged_together(seeds_a, seeds_b):
    a, b = replicated("regression", seeds_a, noise=0.4, n=12), replicated("regression", seeds_b, noise=1.5, n=12)
    target = a["target"].to_numpy()[:12]
    of_a, of_b = ([part["prediction"].to_numpy() for _, part in t.groupby("replicate")] for t in (a, b))
    # As many: one by one. Else each with all.
    pairs = list(zip(of_a, of_b, strict=True) if len(of_a) == len(of_b) else itertools.product(of_a, of_b))

    def rmse(prediction):
        return np.mean((prediction - target) ** 2) ** 0.5

    null = [
        abs(np.mean([rmse(np.where(swap, q, p)) - rmse(np.where(swap, p, q)) for p, q in pairs]))
        for swap in itertools.product((False, True), repeat=12)
    ]
    result = compare(a, b, "regression", "rmse", n_resamples=99)
    assert result.value == pytest.approx(np.mean([rmse(p) for p in of_a]) - np.mean([rmse(q) for q in of_b]))
    assert abs(result.value) == pytest.approx(null[0])
    assert result.p == pytest.approx(np.mean(np.array(null) >= null[0] - 1e-12))


def test_cross_validated_auroc_against_every_exchange():
    fold = np.arange(10) // 2 % 2
    a = predictions("classification", n=10, noise=0.3, fold=fold)
    b = replicated("classification", (1, 2), n=10, noise=2.5, fold=fold).round({"prediction": 1})  # with ties
    target = a["target"].to_numpy()
    of_a, *of_b = (part["prediction"].to_numpy() for part in (a, *(part for _, part in b.groupby("replicate"))))

    def ranked(prediction):
        return pd.Series(prediction).groupby(fold).rank().to_numpy()

    def auroc(prediction):
        compared = [(x, y) for x in range(10) for y in range(10) if target[x] > target[y] and fold[x] == fold[y]]
        return np.mean([np.sign(prediction[x] - prediction[y]) / 2 + 0.5 for x, y in compared])

    pairs = [(ranked(of_a), ranked(p)) for p in of_b]
    null = [
        abs(np.mean([auroc(np.where(swap, q, p)) - auroc(np.where(swap, p, q)) for p, q in pairs]))
        for swap in itertools.product((False, True), repeat=10)
    ]
    result = compare(a, b, "classification", "auroc", n_resamples=99)
    assert abs(result.value) == pytest.approx(null[0])
    assert result.p == pytest.approx(np.mean(np.array(null) >= null[0] - 1e-12))
    assert 0 < result.p < 0.9


def test_repetitions_of_a_cross_validation_are_exchanged_with_those_of_the_same_folds():
    folds = {r: np.random.default_rng(ord(r)).permutation(np.arange(40) % 4) for r in "xyz"}

    def repeated(seeds, repetitions, noise):
        parts = [
            (f"seed {s}, {r}", predictions("classification", seed=s, noise=noise, fold=folds[r]))
            for s in seeds
            for r in repetitions
        ]
        return pd.concat([part.assign(replicate=name) for name, part in parts])

    a = repeated([0], "xy", 0.3)
    compared = {
        repetitions: compare(
            a, repeated([1, 2, 3], repetitions, 2.5), "classification", "auroc", n_resamples=99, n_permutations=999
        )
        for repetitions in ("yx", "xyz", "x")
    }
    assert compared["yx"].test == "permutation"
    assert compared["yx"].p < 0.05
    assert [compared[r].test for r in ("xyz", "x")] == ["none", "none"]
    assert np.isnan(compared["x"].p)
    assert compared["x"].low < compared["x"].value < compared["x"].high


def test_cross_validated_auroc_is_permuted_within_folds():
    fold = np.arange(40) // 2 % 4
    a = predictions("classification", noise=0.3, fold=fold)
    b = predictions("classification", noise=2.5, seed=1, fold=fold)
    result = compare(a, b, "classification", "auroc", n_resamples=99, n_permutations=999)
    assert result.test == "permutation"
    assert 0 < result.p < 0.1
    # Another scale in each fold and model is no difference between models.
    shrunk = b.assign(prediction=0.5 + b["prediction"] / 10 + fold / 20)
    rescaled = compare(a, shrunk, "classification", "auroc", n_resamples=99, n_permutations=999)
    assert (rescaled.value, rescaled.p) == pytest.approx((result.value, result.p))
    named = compare(a, b.assign(fold=[f"fold {k}" for k in fold]), "classification", "auroc", n_resamples=99)
    assert named.test == "permutation"
    assert compare(a, b.assign(fold=np.arange(40) // 4 % 4), "classification", "auroc", n_resamples=99).test == "none"


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "balanced_accuracy", "brier"])
def test_equal_models_have_no_difference(metric):
    a = predictions("classification")
    result = compare(a, a, "classification", metric, n_resamples=99, n_permutations=99)
    assert (result.value, result.p) == (0, 1)


def test_pearson_of_a_model_on_another_scale():
    a, b = (predictions("regression", noise=noise, seed=seed) for noise, seed in ((0.3, 0), (2, 1)))
    result, scaled = (
        compare(a, t, "regression", "pearson", n_resamples=99, n_permutations=999)
        for t in (b, b.assign(prediction=1000 * b["prediction"]))
    )
    assert 0 < result.p < 0.2
    assert scaled.p == pytest.approx(result.p)
    undefined = compare(a, a.assign(prediction=50.0), "regression", "pearson", n_resamples=99)
    assert np.isnan(undefined.p)


def test_few_subjects():
    a, b = (predictions("classification", n=8, noise=1, seed=seed) for seed in (0, 1))
    delong, permuted = (compare(a, b, "classification", m, n_resamples=99) for m in ("auroc", "brier"))
    assert np.isnan([delong.low, delong.p]).all()
    assert 0 < permuted.p <= 1


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_one_subject_has_nobody_to_be_exchanged_with(metric):
    a, b = (predictions("regression", n=1, scans=3, seed=seed) for seed in (1, 2))
    comparison = compare(a, b, "regression", metric)
    assert comparison.value == pytest.approx(difference(a, b, "regression", metric).value)
    assert (np.isnan(comparison.p), comparison.test) == (True, "none")


def test_tables_must_hold_the_same_scans():
    a = predictions("regression")
    with pytest.raises(InputError, match="differ in"):
        compare(a, a[1:], "regression", "mae")


def test_holm():
    # By hand: 4·0.01, 3·0.02, then 2·0.03 and 1·0.04, each at least the one before.
    assert holm([0.04, 0.01, np.nan, 0.03, 0.02]) == pytest.approx([0.06, 0.04, np.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "metric", "scans"),
    [
        ("classification", "auroc", 1),
        ("classification", "auroc", 3),
        ("classification", "average_precision", 1),
        ("classification", "balanced_accuracy", 1),
        ("regression", "mae", 1),
        ("regression", "mae", 3),
        ("regression", "r2", 1),
        ("regression", "r2", 0),  # one seed against three
    ],
)
def test_equally_good_models_rarely_differ(kind, metric, scans):
    assert metric in METRICS[kind]
    p = []
    for seed in range(1000):
        if scans:
            a, b = (predictions(kind, n=60, scans=scans, seed=s, targets=seed) for s in (2 * seed, 2 * seed + 1))
        else:
            a = predictions(kind, n=60, seed=4 * seed, targets=seed)
            b = replicated(kind, range(4 * seed + 1, 4 * seed + 4), n=60, targets=seed)
        p.append(compare(a, b, kind, metric, n_resamples=10, n_permutations=199).p)
    least = 0.005 if metric == "balanced_accuracy" else 0.033  # few subjects are called differently: ties, as McNemar's
    assert least <= np.mean(np.array(p) <= 0.05) <= 0.067
