"""Train, validation and test splits of subjects, never of scans: exact shares, balanced, stable as a cohort grows.

Preprocessing divides a cohort once and puts that on file (`split_scans`, `splits.csv`): whoever is on file keeps their
side, whatever joins. Folds, a site that is left out and fractions of the labels are made of it for each training
(`neuro_ssl.data.protocols`).

Whoever has several subject ids, in two cohorts for one, gets one `person_id` in the manifest, any text that is unique
to them (the subject id in one of the cohorts will do); it takes the place of the subject id here.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neuro_ssl.data.manifest import SPLITS
from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing

BINS = 5  # quantiles of a numeric column; with two sexes 10 strata, so that 100 subjects leave each about 10
TOLD_FROM = 20  # subjects; that fewer cannot be stratified goes without saying


def persons(manifest: pd.DataFrame) -> pd.Series:
    """Whom each scan shows: the `person_id` where the subject has one, else the subject id.

    Raises:
        InputError: a subject with two of them, or one that leads to a subject that has another.
    """
    subject = manifest["subject_id"]
    if "person_id" not in manifest:
        return subject.rename("person")
    by_subject = manifest["person_id"].groupby(subject)
    several = by_subject.nunique().loc[lambda n: n > 1].index
    if len(several):
        raise InputError(f"{several[0]} has scans with different person_id; a subject is one person")
    person = by_subject.transform("first").fillna(subject).rename("person")
    person_of = dict(zip(subject, person, strict=True))
    for other in person.unique():
        if person_of.get(other, other) != other:
            raise InputError(
                f"person_id {other} is a subject whose own person_id is {person_of[other]}; make them equal"
            )
    return person


def refuse_straddling(manifest: pd.DataFrame) -> None:
    """Refuse a person with scans on two sides.

    Raises:
        InputError: naming the person.
    """
    sides = manifest.groupby(persons(manifest))["split"].nunique()
    straddling = sides.index[sides > 1]
    if len(straddling):
        raise InputError(f"{straddling[0]} has scans in two splits; a subject belongs to one")


def assign_splits(
    subjects: pd.DataFrame,
    shares: Mapping[str, float],
    stratify: Sequence[str] = (),
    seed: int = 0,
    existing: Mapping[str, str] | None = None,
) -> pd.Series:
    """Hand every subject to a split.

    Subjects are walked through stratum by stratum, in a seeded random order within each, and each goes to the split
    that lags most behind its share; so every stratum is divided nearly proportionally, and the whole exactly, save that
    no split stays empty. The result depends on which subjects there are, not on their order.

    Args:
        subjects: one row a subject, indexed by subject id, with the columns to stratify by where they are known.
        shares: fraction of the subjects for train, val and test; a share of 0 makes no such split.
        stratify: columns to balance together, fifths of them where they are numeric with many values; a column that is
            not there is ignored. A stratum too small to be divided is balanced together with its neighbours, which
            share the first columns: name the most important one first.
        seed: of the order within a stratum.
        existing: splits from an earlier run; those subjects keep them.

    Returns:
        The split of each subject, with the index of `subjects`.

    Raises:
        InputError: shares that are not fractions adding up to 1, or too few subjects for every split to get one.

    Warns:
        UserWarning: most subjects are in strata too small to be divided.
    """
    if not shares or not set(shares) <= set(SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"splits must be fractions for {', '.join(SPLITS)} that add up to 1, got {dict(shares)}")
    shares = {split: shares[split] for split in SPLITS if shares.get(split)}
    kept = {subject: split for subject, split in (existing or {}).items() if subject in subjects.index}

    size = _sizes(shares, len(subjects))
    room = {split: size[split] - list(kept.values()).count(split) for split in shares}
    lag = dict.fromkeys(shares, 0.0)
    assigned: dict[str, str] = {}
    for subject in walk(subjects, stratify, seed, len(shares)).index:
        for split, share in shares.items():
            lag[split] += share
        if subject in kept:
            assigned[subject] = kept[subject]
        else:
            assigned[subject] = max((split for split in shares if room[split] > 0), key=lambda split: lag[split])
            room[assigned[subject]] -= 1
        if assigned[subject] in lag:  # a kept split may have no share any more
            lag[assigned[subject]] -= 1
    empty = set(shares) - set(assigned.values())
    if empty:
        raise InputError(
            f"no subject of {len(subjects)} is left for {', '.join(sorted(empty))}, with splits={shares}; "
            "add subjects, or set that share to 0"
        )
    return pd.Series(assigned, name="split", dtype="str").reindex(subjects.index)


def _sizes(shares: Mapping[str, float], n_subjects: int) -> dict[str, int]:
    """Whole numbers of subjects nearest to the shares (largest remainder), at least 1 each."""
    wanted = {split: share * n_subjects for split, share in shares.items()}
    size = {split: max(1, int(wanted[split])) for split in shares}
    while sum(size.values()) < n_subjects:
        size[max(shares, key=lambda split: wanted[split] - size[split])] += 1
    while sum(size.values()) > max(n_subjects, len(shares)):
        size[max((s for s in shares if size[s] > 1), key=lambda split: size[split] - wanted[split])] -= 1
    return size


def split_scans(
    manifest: pd.DataFrame,
    path: Path,
    shares: Mapping[str, float],
    stratify: Sequence[str] = (),
    seed: int = 0,
) -> tuple[pd.DataFrame, int]:
    """Give every scan its subject's split: the table's own, else the one on file, else a new one.

    Args:
        manifest: one row a scan; a column `split`, where it is there, is taken as it is.
        path: `splits.csv` of the cohort, read if it exists: all stores of a cohort are split alike, and subjects keep
            their side when others join. `write_splits` makes it.
        shares: see `assign_splits`, as stratify and seed.

    Returns:
        The manifest with `split`, and how many subjects kept the split on file.

    Raises:
        InputError: a split given for some scans only, or two splits for one subject.
    """
    person = persons(manifest)
    if "split" in manifest:
        missing = manifest["subject_id"][manifest["split"].isna()]
        if len(missing):
            raise InputError(f"{missing.iloc[0]} has no split and other scans do: give all of them one, or none")
        refuse_straddling(manifest)
        return manifest, 0
    existing: dict[str, str] = {}
    if path.is_file():
        table = read_table(path)
        for column in ("subject_id", "split"):
            if column not in table:
                raise missing_column(column, table.columns, f"{path} (delete it to split anew)")
        existing = dict(zip(table["subject_id"], table["split"], strict=True))
        unknown = set(existing.values()) - set(SPLITS)
        if unknown:
            raise InputError(f"{path}: {unknown.pop()!r} is not one of {', '.join(SPLITS)}; delete it to split anew")
    on_file = manifest["subject_id"].map(existing)
    sides = on_file.groupby(person).nunique()
    straddling = person[person.map(sides) > 1]
    if len(straddling):
        subjects = ", ".join(sorted(manifest["subject_id"][person == straddling.iloc[0]].unique()))
        raise InputError(f"{path}: {subjects} are one person by person_id and have two splits; give them one there")
    kept = {str(person): split for person, split in on_file.groupby(person).first().dropna().items()}
    splits = assign_splits(manifest.groupby(person).first(), shares, stratify, seed, kept)
    return manifest.assign(split=person.map(splits)), manifest["subject_id"][on_file.notna()].nunique()


def write_splits(manifest: pd.DataFrame, path: Path) -> None:
    """Put the splits on file, beside those of subjects that are no longer in the cohort.

    Raises:
        InputError: the file cannot be written.
    """
    table = manifest[["subject_id", "split"]].drop_duplicates()
    if path.is_file():
        before = read_table(path)
        table = pd.concat([table, before]).drop_duplicates("subject_id")
        if table.sort_values("subject_id").to_csv(index=False) == before.to_csv(index=False):
            return
    with appearing(path) as file:
        table.sort_values("subject_id").to_csv(file, index=False)


def walk(subjects: pd.DataFrame, stratify: Sequence[str], seed: int | str, n_parts: int) -> pd.Series:
    """The order in which subjects are dealt out: stratum by stratum, within each by a hash of seed and subject.

    Args:
        subjects: see `assign_splits`, as stratify.
        seed: of the order.
        n_parts: into how many parts a stratum is to be divided.

    Returns:
        The number of each subject's stratum, indexed by the subject.

    Warns:
        UserWarning: most subjects are in strata smaller than `n_parts`.
    """
    strata = pd.DataFrame(index=subjects.index)
    for name in stratify:
        if name in subjects:
            column = subjects[name]
            if pd.api.types.is_numeric_dtype(column) and column.nunique() > BINS:
                column = pd.qcut(column.rank(), BINS, labels=False, duplicates="drop")
            strata[name] = column.astype("str").fillna("unknown")
    columns = [name for name in stratify if name in strata]
    strata["hash"] = [hashlib.sha256(f"{seed} {subject}".encode()).hexdigest() for subject in strata.index]
    strata = strata.sort_values([*columns, "hash"])
    if not columns:
        return pd.Series(0, index=strata.index)
    number = strata.groupby(columns).ngroup()
    rare = number.map(number.value_counts()) < n_parts
    if rare.mean() > 0.5 and len(rare) >= TOLD_FROM:
        warnings.warn(
            f"stratifying by {', '.join(columns)}: {rare.sum()} of {len(rare)} subjects are in groups of fewer than "
            f"{n_parts}, which are balanced together with others that share the first columns; name fewer columns",
            stacklevel=2,
        )
    return number


def folds(subjects: pd.DataFrame, n_folds: int, stratify: Sequence[str], seed: int | str) -> pd.Series:
    """Divide subjects into folds whose sizes differ by one at most, in all and within each stratum.

    The sizes are those of scikit-learn's `StratifiedKFold`, and a stratum is cut into folds in the order of a hash of
    its subjects: if others join, folds keep all subjects but those near a cut.

    Args:
        subjects: see `assign_splits`, as stratify.
        n_folds: how many.
        seed: of the order.

    Returns:
        The fold of each subject, from 0, with the index of `subjects`.

    Raises:
        InputError: fewer subjects than folds.
    """
    if len(subjects) < n_folds:
        raise InputError(f"split.n_folds={n_folds}, and there are {len(subjects)} subjects; take fewer folds")
    stratum = walk(subjects, stratify, seed, n_folds)
    dealt = pd.Series(np.arange(len(stratum)) % n_folds, index=stratum.index)
    return dealt.groupby(stratum).transform(np.sort).reindex(subjects.index)
