import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.bids import BIDSDataset
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.reliability import embedding_icc, icc_2_1, pairs, prediction_icc
from tests.conftest import run_command

# Shrout & Fleiss 1979, table 2: six subjects, four judges.
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def naive_icc(values):
    """Mean squares of the two-way layout, written out."""
    values = np.asarray(values, float)
    n, k = values.shape
    mean, of_subject, of_rater = values.mean(), values.mean(1), values.mean(0)
    msr = k * sum((m - mean) ** 2 for m in of_subject) / (n - 1)
    msc = n * sum((m - mean) ** 2 for m in of_rater) / (k - 1)
    rest = [(values[i, j] - of_subject[i] - of_rater[j] + mean) ** 2 for i in range(n) for j in range(k)]
    mse = sum(rest) / ((n - 1) * (k - 1))
    return msr, msc, mse, (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)


def test_icc_of_shrout_and_fleiss():
    score = icc_2_1(RATINGS)
    assert [score.value, score.low, score.high] == pytest.approx([0.29, 0.02, 0.76], abs=0.005)
    # On a scale far from 0, rounding must not eat the mean squares.
    assert icc_2_1(np.array(RATINGS) * 1e-3 + 1e4).low == pytest.approx(score.low, abs=1e-4)


def test_icc_against_the_definition():
    rng = np.random.default_rng(0)
    for n, k in ((2, 2), (9, 3), (30, 2)):
        values = rng.normal(size=(n, 1)) + 0.7 * rng.normal(size=(n, k)) + rng.normal(size=k)
        assert icc_2_1(values).value == pytest.approx(naive_icc(values)[3], abs=1e-12)


def test_a_shift_between_scans_counts_as_disagreement():
    once = np.arange(10.0)
    shifted = icc_2_1(np.stack([once, once + 2], 1))
    assert icc_2_1(np.stack([once, once], 1)).value == pytest.approx(1)
    assert shifted.low < shifted.value < 0.9


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[1.0], [2.0]], [[1, np.nan], [2, 3]], [[4, 4], [4, 4]]])
def test_icc_of_too_little_is_undefined(values):
    assert np.isnan(icc_2_1(values).value)


def test_features_are_scored_one_by_one_and_together():
    rng = np.random.default_rng(1)
    brain = rng.normal(size=(12, 5)) * [1, 2, 3, 4, 5] + 100
    first, second = (brain + rng.normal(size=(12, 5)) for _ in "ab")
    first[:, 0] = second[:, 0] = 3.3
    result = embedding_icc(first, second, np.arange(12), n_resamples=200)
    scans = np.concatenate([first, second])[:, 1:]
    standardised = (np.stack([first[:, 1:], second[:, 1:]], 2) - scans.mean(0)[:, None]) / scans.std(0)[:, None]
    squares = np.array([naive_icc(standardised[:, f]) for f in range(4)])
    assert result.median.value == pytest.approx(np.median(squares[:, 3]))
    assert [result.lower_quartile, result.upper_quartile] == pytest.approx(np.quantile(squares[:, 3], [0.25, 0.75]))
    msr, msc, mse, _ = squares.sum(0)
    assert result.multivariate.value == pytest.approx((msr - mse) / (msr + mse + 2 * (msc - mse) / 12))
    assert result.multivariate.low < result.multivariate.value < result.multivariate.high
    assert (result.n_pairs, result.n_subjects, result.n_constant) == (12, 12, 1)

    units = np.array([1, 1e6, 1e-3, 1, 5])  # such as a volume in ml beside intensities
    scaled = embedding_icc(first * units, second * units, np.arange(12), n_resamples=200)
    assert vars(scaled.multivariate) == pytest.approx(vars(result.multivariate))
    first[:, 0] *= np.float32(1) + np.finfo(np.float32).eps * rng.integers(-1, 2, 12)
    rounded = embedding_icc(first, second, np.arange(12), n_resamples=200)
    assert vars(rounded.multivariate) == pytest.approx(vars(result.multivariate))


def test_several_pairs_of_a_subject_are_one_subject():
    rng = np.random.default_rng(2)
    brain = rng.normal(size=(20, 3))
    first, second, subject = brain + rng.normal(size=(20, 3)), brain + rng.normal(size=(20, 3)), np.arange(20)
    once = embedding_icc(first, second, subject).multivariate
    again = embedding_icc(*(np.tile(x, (4, 1)) for x in (first, second)), np.tile(subject, 4)).multivariate
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.05)
    values = np.stack([first[:, 0], second[:, 0]], 1)
    assert prediction_icc(*values.T, subject) == icc_2_1(values)
    predicted, as_if_independent = (
        prediction_icc(*np.tile(values.T, 4), np.tile(subject, 4)),
        icc_2_1(np.tile(values, (4, 1))),
    )
    assert predicted.high - predicted.low > 1.3 * (as_if_independent.high - as_if_independent.low)


def test_few_pairs_and_broken_features():
    few = embedding_icc([[1.0, 2], [2, 4], [3, 5]], [[1.1, 2], [2.1, 3], [3, 5]], [0, 1, 2])
    assert few.multivariate.value > 0.5
    assert np.isnan(few.multivariate.low)
    assert np.isnan(embedding_icc(np.zeros((0, 4)), np.zeros((0, 4)), []).median.value)
    assert np.isnan(embedding_icc(np.ones((9, 4)), np.ones((9, 4)), range(9)).multivariate.value)
    with pytest.raises(InputError, match="not finite"):
        embedding_icc([[1.0], [np.inf]], [[1.0], [2.0]], [0, 1])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    output = tmp_path_factory.mktemp("retests") / "simulated"
    run_command(
        "simulate",
        *(f"output='{output}'", "n_subjects=6", "spacing_mm=8", "n_jobs=1"),
        *("scanners_per_site=2", "retest_fraction=1", "follow_up_fraction=1"),
    )
    return output


def test_pairs_of_a_cohort_are_its_planted_retests(cohort):
    manifest = BIDSDataset(cohort="simulated", root=cohort).scans()
    truth = pd.concat(
        [
            pd.read_csv(path, sep="\t").assign(subject_id=f"simulated/{path.parent.name}")
            for path in cohort.glob("sub-*/*_sessions.tsv")
        ]
    )
    assert (truth["visit"] == "follow-up").sum() == 6  # years later: no pairs
    found = pairs(manifest)
    assert len(found) == (truth["visit"] == "retest").sum() == 6
    assert set(found["kind"]) == {"retest", "scanner"}
    for pair in found.itertuples():
        rows = manifest.iloc[[pair.first, pair.second]]
        assert set(rows["subject_id"]) == {pair.subject_id}
        visits = truth[(truth["subject_id"] == pair.subject_id) & truth["session_id"].isin(rows["session_id"])]
        assert set(visits["visit"]) == {"baseline", "retest"}
        assert (visits["scanner"].nunique() == 1) == (pair.kind == "retest")
        first, second = (tuple(row) for row in rows[["site", "scanner"]].to_numpy())
        assert pair.kind == "retest" or first < second
    assert len(pairs(manifest, max_years=10)) == 6 * 3


def test_what_is_not_known_makes_no_retest():
    scans = pd.DataFrame({"subject_id": ["c/1"] * 3 + ["c/2"] * 2, "age_years": [50, 50.25, 53, np.nan, np.nan]})
    assert pairs(scans)["kind"].tolist() == ["unknown"]
    assert pairs(scans.assign(site="a"))["kind"].tolist() == ["retest"]
    assert pairs(scans.assign(scanner=["x", None, "x", "x", "x"]))["kind"].tolist() == ["unknown"]
    elsewhere = scans.assign(site=["b", "a", "a", "a", "a"], scanner="MR1", session_id=None)  # MR1 of two hospitals
    assert pairs(elsewhere)[["first", "second", "kind"]].to_numpy().tolist() == [[1, 0, "scanner"]]
    assert pairs(scans.drop(columns="age_years")).empty
    assert pairs(scans[:0]).empty


@pytest.mark.slow
def test_multivariate_interval_covers_the_truth():
    rng = np.random.default_rng(3)
    brain, noise = rng.normal(size=(6, 30)) * np.linspace(0.2, 2, 30), 0.4 * rng.normal(size=(6, 30))
    truth = np.mean((brain**2).sum(0) / ((brain**2).sum(0) + (noise**2).sum(0) + 0.3**2))
    hits = 0
    for _ in range(600):
        anatomy = rng.normal(size=(40, 6)) @ brain
        first, second = (anatomy + rng.normal(size=(40, 6)) @ noise + 0.3 * rng.normal(size=(40, 30)) for _ in "ab")
        interval = embedding_icc(first, second, np.arange(40), n_resamples=500).multivariate
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / 600 <= 0.98
