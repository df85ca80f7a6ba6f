import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from neuro_ssl.data.protocols import KFold, LabelFraction, LeaveSiteOut, StoredSplit, divide
from neuro_ssl.data.splits import folds, persons, refuse_straddling, split_scans
from neuro_ssl.errors import InputError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def cohort(n, seed=0, sites="AB"):
    """Subjects with one to three scans, on file with a split."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), rng.integers(1, 4, n))
    manifest = pd.DataFrame({"subject_id": [f"c/{i}" for i in subject]})
    manifest["image_path"] = [f"{i}.nii" for i in range(len(subject))]
    manifest["sex"] = rng.choice(["F", "M"], n)[subject]
    manifest["diagnosis"] = rng.choice(["CN", "AD"], n, p=[0.8, 0.2])[subject]
    manifest["age_years"] = rng.uniform(20, 90, n)[subject]
    manifest["site"] = rng.choice(list(sites), n)[subject]
    return manifest


@pytest.fixture
def on_file(tmp_path):
    return split_scans(cohort(200), tmp_path / "splits.csv", SHARES, ["sex", "age_years"])[0]


def subjects(manifest, split):
    return set(manifest["subject_id"][manifest["split"] == split])


# A scan: subject, site, age, label. Anything the schema allows, subjects seen at two sites among it.
SCANS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(["A", "B", "C", None]),
        st.one_of(st.none(), st.floats(18, 95)),
        st.sampled_from(["x", "y", None]),
    ),
    min_size=1,
    max_size=60,
)
PERSONS = st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=13, max_size=13)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    scans=SCANS,
    person=PERSONS,
    seed=st.integers(0, 5),
    n_folds=st.integers(3, 6),
    held_out=st.sampled_from(["val", "test"]),
    fraction=st.floats(0.01, 1),
    stratify=st.lists(st.sampled_from(["site", "age_years", "label"]), unique=True),
)
def test_nobody_straddles(tmp_path_factory, scans, person, seed, n_folds, held_out, fraction, stratify):
    table = pd.DataFrame(scans, columns=["number", "site", "age_years", "label"])
    table["subject_id"] = "c/" + table["number"].astype(str)
    table["person_id"] = [None if person[n] is None else f"person {person[n]}" for n in table["number"]]
    file = tmp_path_factory.mktemp("splits") / "splits.csv"
    manifests = []
    try:
        stored = split_scans(table, file, SHARES, stratify, seed)[0]
    except InputError as error:
        assert "no subject of" in str(error)  # too few for three splits
        return
    manifests.append(StoredSplit()(stored))
    try:
        manifests.append(KFold(seed % n_folds, n_folds, held_out=held_out, stratify=stratify, seed=seed)(stored))
    except InputError as error:
        assert "take fewer folds" in str(error)
    manifests += [LeaveSiteOut(site)(stored) for site in stored["site"].dropna().unique()]
    manifests += [LabelFraction(fraction, "label", seed=seed)(manifest) for manifest in manifests]
    # The oracle doesn't use `persons`: a person is a connected set of subject and person ids.
    who = [f"c/{n}" if person[n] is None else f"person {person[n]}" for n in table["number"]]
    for manifest in manifests:
        sides = {}
        for name, split in zip(who, manifest["split"], strict=True):
            if isinstance(split, str):
                sides.setdefault(name, set()).add(split)
        assert all(len(splits) == 1 for splits in sides.values()), manifest


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_folds_hold_everyone_once(on_file, held_out):
    made = [KFold(fold, held_out=held_out)(on_file) for fold in range(5)]
    held = [subjects(manifest, held_out) for manifest in made]
    everyone = set(on_file["subject_id"]) - (subjects(on_file, "test") if held_out == "val" else set())
    assert sorted(subject for fold in held for subject in fold) == sorted(everyone)
    sizes = [len(fold) for fold in held]
    assert max(sizes) - min(sizes) <= 1
    for fold, manifest in enumerate(made):
        assert manifest["split"].notna().all()
        if held_out == "val":
            assert subjects(manifest, "test") == subjects(on_file, "test")
        else:
            assert subjects(manifest, "val") == held[(fold + 1) % 5]


def test_repetitions_and_seeds_divide_anew(on_file):
    held = [frozenset(subjects(KFold(0, **given)(on_file), "val")) for given in ({}, {"repeat": 1}, {"seed": 1})]
    assert len(set(held)) == 3


def test_folds_are_those_of_scikit_learn():
    table = cohort(97).groupby("subject_id").first()
    ours = folds(table, 5, ["diagnosis", "sex"], seed=0)
    order = sorted(table.index, key=lambda subject: hashlib.sha256(f"0 {subject}".encode()).hexdigest())
    label = (table["diagnosis"] + table["sex"])[order]
    label = label.map({name: i for i, name in enumerate(sorted(label.unique()))})
    theirs = pd.Series(index=order, dtype=int)
    for fold, (_, test) in enumerate(StratifiedKFold(5).split(order, label)):
        theirs.iloc[test] = fold
    sizes = [pd.crosstab(label, fold[order]).to_numpy() for fold in (ours, theirs)]
    assert (np.sort(sizes[0], axis=1) == np.sort(sizes[1], axis=1)).all()
    for name in label.unique():  # and a stratum is cut in the same order
        assert ours[order][label == name].is_monotonic_increasing


def test_folds_keep_nearly_all_when_others_join():
    table = cohort(330, seed=3).groupby("subject_id").first()
    before = folds(table[:300], 5, ["diagnosis", "sex"], seed=0)
    after = folds(table, 5, ["diagnosis", "sex"], seed=0)
    assert (after[before.index] == before).mean() > 0.85  # 0.2 if they were dealt anew
    shuffled = folds(table.sample(frac=1, random_state=0), 5, ["diagnosis", "sex"], seed=0)
    assert shuffled[table.index].equals(after)


def test_strata_of_several_columns_and_what_is_said_of_rare_ones(on_file):
    split = KFold(stratify=["diagnosis", "sex", "site"])(on_file).drop_duplicates("subject_id")
    for column in ("diagnosis", "sex"):
        shares = pd.crosstab(split[column], split["split"], normalize="columns")
        assert (shares["train"] - shares["val"]).abs().max() < 0.08
    many = on_file.assign(scanner=on_file["subject_id"])
    with pytest.warns(UserWarning, match=r"160 of 160 subjects are in groups of fewer than 5"):
        split = KFold(stratify=["diagnosis", "scanner"])(many).drop_duplicates("subject_id")
    counts = pd.crosstab(split["diagnosis"], split["split"])
    assert (counts["val"] - (counts["train"] + counts["val"]) / 5).abs().max() < 1  # the first column is balanced still


def test_a_site_left_out(on_file):
    elsewhere = on_file["subject_id"] == on_file["subject_id"][on_file["site"] == "A"].iloc[0]
    rows = on_file.assign(site=on_file["site"].mask(elsewhere & on_file.duplicated("subject_id"), "B"))
    made = LeaveSiteOut("A")(rows)
    assert (made["split"] == "test").equals(rows["site"] == "A")
    assert made["split"][elsewhere & (rows["site"] == "B")].isna().all()
    refuse_straddling(made)
    others = made[(rows["site"] == "B") & ~elsewhere]
    assert subjects(others, "val") == subjects(rows[(rows["site"] == "B") & ~elsewhere], "val")
    assert len(subjects(others, "train")) + len(subjects(others, "val")) == others["subject_id"].nunique()
    with pytest.raises(InputError, match=r"split.site=C: no such site; there are A \(\d+ scans\), B"):
        LeaveSiteOut("C")(rows)
    with pytest.raises(InputError, match="no column 'sight'; did you mean 'site'"):
        LeaveSiteOut("A", "sight")(rows)


@pytest.mark.parametrize("target", ["diagnosis", "age_years"])
def test_fractions_are_nested_and_balanced(on_file, target):
    on_file.loc[on_file["sex"] == "M", target] = np.nan  # half have no label
    labelled = on_file[(on_file["split"] == "train") & on_file[target].notna()]
    everyone = labelled["subject_id"].nunique()
    smaller = set()
    for fraction in (0.02, 0.1, 0.2, 0.5, 0.9):
        made = LabelFraction(fraction, target)(on_file)
        kept = subjects(made, "train")
        assert smaller < kept < set(labelled["subject_id"])
        assert len(kept) == int(np.ceil(round(fraction * everyone, 6)))
        assert made["split"][on_file["split"] != "train"].equals(on_file["split"][on_file["split"] != "train"])
        if target == "diagnosis":
            for name, group in labelled.groupby(target):
                n = group["subject_id"].nunique()
                assert abs(len(kept & set(group["subject_id"])) - fraction * n) < 1, name
                assert kept & set(group["subject_id"])
        smaller = kept
    assert LabelFraction(1, target)(on_file) is on_file
    assert subjects(LabelFraction(0.1, target, seed=1)(on_file), "train") != subjects(
        LabelFraction(0.1, target)(on_file), "train"
    )


def test_labels_left_out_do_not_count(on_file):
    made = LabelFraction(0.5, "diagnosis", ["AD"])(on_file)
    assert set(made["diagnosis"][made["split"] == "train"]) == {"CN"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KFold(5), "split.fold must be from 0 to 4, got 5"),
        (lambda: KFold(0, 1), "split.n_folds must be at least 2"),
        (lambda: KFold(0, 2, held_out="test"), "split.n_folds must be at least 3"),
        (lambda: KFold(repeat=-1), "split.repeat must be at least 0"),
        (lambda: LabelFraction(0, "sex"), "label_fraction must be above 0 and at most 1, got 0"),
        (lambda: LabelFraction(1.5, "sex"), "got 1.5"),
    ],
)
def test_values_out_of_range(make, message):
    with pytest.raises(InputError, match=message):
        make()


@dataclass(frozen=True)
class Scans:
    manifest: pd.DataFrame
    path: str = "there"

    @property
    def summary(self):
        return {"n": self.manifest["split"].notna().sum()}


def test_divide(on_file):
    scans = Scans(on_file)
    same, data = divide(scans, StoredSplit(), 1.0, None, 0)
    assert same is scans and data == {"n": len(on_file), "split": ""}
    other, data = divide(scans, KFold(2), 0.5, ("sex", None), 0)
    assert data == {
        "n": other.manifest["split"].notna().sum(),
        "split": "val = fold 2 of 0–4, 50 % of the training subjects",
    }
    assert data["n"] < len(on_file)
    with pytest.raises(InputError, match="there: split.n_folds=500, and there are 160 subjects"):
        divide(scans, KFold(0, 500), 1.0, None, 0)
    with pytest.raises(InputError, match="pretraining has no labels"):
        divide(scans, StoredSplit(), 0.5, None, 0)


def test_one_person_with_two_ids_is_on_one_side(tmp_path):
    manifest = cohort(60)
    one = manifest["subject_id"].isin(["c/3", "c/7", "c/40"])
    manifest["person_id"] = pd.Series("me", index=manifest.index).where(one)
    made, _ = split_scans(manifest, tmp_path / "splits.csv", SHARES)
    assert made["split"][one].nunique() == 1
    assert persons(manifest)[~one].equals(manifest["subject_id"][~one].rename("person"))
    with pytest.raises(InputError, match="c/3 has scans in two splits|me has scans in two splits"):
        split_scans(
            made.assign(
                split=made["split"].mask(made["subject_id"] == "c/3", "val").mask(made["subject_id"] == "c/7", "test")
            ),
            tmp_path / "other.csv",
            SHARES,
        )
    table = "subject_id,split\nc/3,train\nc/7,test\n"
    (tmp_path / "old.csv").write_text(table)
    with pytest.raises(InputError, match="c/3, c/40, c/7 are one person by person_id and have two splits"):
        split_scans(manifest, tmp_path / "old.csv", SHARES)
    (tmp_path / "old.csv").write_text("subject_id,split\nc/3,test\nc/1,val\n")
    made, kept = split_scans(manifest, tmp_path / "old.csv", SHARES)
    assert kept == 2 and set(made["split"][one]) == {"test"}


def test_person_ids_that_contradict_each_other():
    table = pd.DataFrame({"subject_id": ["a/1", "a/1", "b/2"], "person_id": ["x", "y", None]})
    with pytest.raises(InputError, match="a/1 has scans with different person_id"):
        persons(table)
    table["person_id"] = ["b/2", "b/2", "z"]
    with pytest.raises(InputError, match="person_id b/2 is a subject whose own person_id is z"):
        persons(table)
    table["person_id"] = ["b/2", None, None]  # named after a subject of another cohort
    assert persons(table).tolist() == ["b/2"] * 3


def test_the_command_learns_from_a_fraction_of_the_subjects(real_brains, tmp_path, command):
    tiny = ["dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={tmp_path}"]
    tiny += ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv", "encoder.width=8"]
    command(
        "train", "+experiment=from_scratch", "encoder.norm=group", "label_fraction=0.5", "sampling.sessions=one", *tiny
    )
    (run,) = tmp_path.glob("from_scratch-*")
    assert sorted(pd.read_csv(run / "splits.csv")["split"]) == ["test", "train", "val"]
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["dataset"]["n_subjects"] == {"train": 1, "val": 1, "test": 1}
    assert record["dataset"]["split"] == "50 % of the training subjects"
    assert record["leakage"] == {"verdict": "disjoint", "n_subjects": {"val": 0, "test": 0}}
