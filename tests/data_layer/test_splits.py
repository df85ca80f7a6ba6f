import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.splits import assign_splits, split_scans, write_splits
from neuro_ssl.errors import InputError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
BY = ["sex", "age_years"]


def cohort(seed, n):
    rng = np.random.default_rng(seed)
    age = np.where(rng.random(n) < 0.1, np.nan, rng.normal(50, 20, n))
    return pd.DataFrame({"sex": rng.choice(["F", "M", None], n), "age_years": age}, index=[f"c/{i}" for i in range(n)])


@pytest.mark.parametrize("seed", range(12))
def test_shares_balance_and_order(seed):
    subjects = cohort(seed, 10 + 17 * seed)
    splits = assign_splits(subjects, SHARES, BY, seed)
    for split, share in SHARES.items():
        assert abs((splits == split).sum() - share * len(subjects)) < 1
        for _, stratum in subjects.groupby(subjects["sex"].fillna("?")):
            assert abs((splits[stratum.index] == split).sum() - share * len(stratum)) < 2.5
    shuffled = assign_splits(subjects.sample(frac=1, random_state=seed), SHARES, BY, seed)
    pd.testing.assert_series_equal(shuffled[subjects.index], splits)


def test_the_seed_decides():
    subjects = cohort(0, 100)
    assert (assign_splits(subjects, SHARES, BY, 0) != assign_splits(subjects, SHARES, BY, 1)).any()


@pytest.mark.parametrize("seed", range(5))
def test_old_subjects_keep_their_side_when_others_join(seed):
    everyone = cohort(seed, 150)
    first = assign_splits(everyone[40:100], SHARES, BY, seed)
    grown = assign_splits(everyone, SHARES, BY, seed, first.to_dict())
    assert grown[first.index].equals(first)
    assert all(abs((grown == split).sum() - share * 150) < 1 for split, share in SHARES.items())


def test_ages_are_balanced():
    subjects = pd.DataFrame({"age_years": np.linspace(20, 90, 200)}, index=[f"c/{i}" for i in range(200)])
    ages = [subjects.groupby(assign_splits(subjects, SHARES, BY, seed))["age_years"].mean() for seed in range(10)]
    random = [subjects.groupby(assign_splits(subjects, SHARES, [], seed))["age_years"].mean() for seed in range(10)]
    assert np.std(pd.DataFrame(ages)["test"]) < 0.5 * np.std(pd.DataFrame(random)["test"])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.6, "val": 0.2}, "add up to 1"),
        ({"train": 0.6, "dev": 0.4}, "fractions for train, val, test"),
        ({"train": 1.5, "test": -0.5}, "fractions"),
    ],
)
def test_refuses(shares, message):
    with pytest.raises(InputError, match=message):
        assign_splits(cohort(0, 10), shares)


def test_every_split_gets_a_subject_where_there_are_enough():
    splits = assign_splits(cohort(0, 3), {"train": 0.9, "val": 0.05, "test": 0.05})
    assert sorted(splits) == ["test", "train", "val"]
    with pytest.raises(InputError, match="no subject of 2 is left for (train|val|test)"):
        assign_splits(cohort(0, 2), SHARES)


def test_a_share_of_zero_makes_no_split():
    assert set(assign_splits(cohort(0, 10), {"train": 0.5, "val": 0.5, "test": 0.0})) == {"train", "val"}


def scans(n_subjects):
    rows = [(f"c/{i}", f"ses-{k}", f"{i}-{k}.nii") for i in range(n_subjects) for k in range(1 + i % 3)]
    return pd.DataFrame(rows, columns=["subject_id", "session_id", "image_path"])


def test_no_subject_straddles_and_the_file_is_kept(tmp_path):
    path = tmp_path / "splits.csv"
    first, kept = split_scans(scans(10), path, SHARES)
    assert kept == 0 and (first.groupby("subject_id")["split"].nunique() == 1).all()
    write_splits(first, path)
    grown, kept = split_scans(scans(14), path, {"train": 0.2, "val": 0.4, "test": 0.4}, seed=9)
    assert kept == 10
    assert grown.set_index("image_path")["split"][first["image_path"]].tolist() == first["split"].tolist()
    write_splits(split_scans(scans(9), path, SHARES)[0], path)  # those who left are not forgotten
    assert len(pd.read_csv(path)) == 10


def test_a_tables_own_split_is_honoured(tmp_path):
    own = scans(3).assign(split=["train", "val", "val", "test", "test", "test"])
    assert split_scans(own, tmp_path / "splits.csv", SHARES)[0].equals(own)
    with pytest.raises(InputError, match="c/1 has scans in two splits"):
        split_scans(own.assign(split=["train", "val", "test", "test", "test", "test"]), tmp_path / "s", SHARES)
    with pytest.raises(InputError, match="c/0 has no split"):
        split_scans(own.assign(split=[None, "val", "val", "test", "test", "test"]), tmp_path / "s", SHARES)
