"""Train, validation and test splits of subjects, never of scans: exact shares, balanced, stable as a cohort grows."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from neuro_ssl.data.manifest import SPLITS
from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing

BINS = 5  # quantiles of a numeric column; with two sexes 10 strata, so that 100 subjects leave each about 10


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
        stratify: columns to balance, quantiles of them where they are numeric; a column that is not there is ignored.
        seed: of the order within a stratum.
        existing: splits from an earlier run; those subjects keep them.

    Returns:
        The split of each subject, with the index of `subjects`.

    Raises:
        InputError: shares that are not fractions adding up to 1, or too few subjects for every split to get one.
    """
    if not shares or not set(shares) <= set(SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise InputError(f"splits must be fractions for {', '.join(SPLITS)} that add up to 1, got {dict(shares)}")
    shares = {split: shares[split] for split in SPLITS if shares.get(split)}
    kept = {subject: split for subject, split in (existing or {}).items() if subject in subjects.index}

    size = _sizes(shares, len(subjects))
    room = {split: size[split] - list(kept.values()).count(split) for split in shares}
    lag = dict.fromkeys(shares, 0.0)
    assigned: dict[str, str] = {}
    for subject in _walk(subjects, stratify, seed):
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
    by_subject = manifest.groupby("subject_id")
    if "split" in manifest:
        missing = manifest["subject_id"][manifest["split"].isna()]
        if len(missing):
            raise InputError(f"{missing.iloc[0]} has no split and other scans do: give all of them one, or none")
        straddling = by_subject["split"].nunique().loc[lambda n: n > 1].index
        if len(straddling):
            raise InputError(f"{straddling[0]} has scans in two splits; a subject belongs to one")
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
    subjects = by_subject.first()
    splits = assign_splits(subjects, shares, stratify, seed, existing)
    return manifest.assign(split=manifest["subject_id"].map(splits)), len(set(existing) & set(subjects.index))


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


def _walk(subjects: pd.DataFrame, stratify: Sequence[str], seed: int) -> list[str]:
    """Subject ids sorted by stratum, then by a hash."""
    strata = pd.DataFrame(index=subjects.index)
    for name in stratify:
        if name in subjects:
            column = subjects[name]
            if pd.api.types.is_numeric_dtype(column):
                column = pd.qcut(column.rank(), BINS, labels=False, duplicates="drop")
            strata[name] = column.astype("str").fillna("unknown")
    key = {
        subject: (*stratum, hashlib.sha256(f"{seed} {subject}".encode()).hexdigest())
        for subject, *stratum in strata.itertuples()
    }
    return sorted(key, key=lambda subject: key[subject])
