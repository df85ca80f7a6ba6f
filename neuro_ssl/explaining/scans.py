"""Which scans are explained. Their labels are not looked at, so that no test set is opened by this."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.tabular import read_table
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError

Split = Literal["train", "val", "test", "all"]
CHOSEN = "chosen"  # in place of a split, where scans were named


def choose_scans(
    volumes: Volumes, weights: Weights, scans: str | Sequence[str] = "test", max_scans: int | None = None
) -> pd.DataFrame:
    """Rows of the manifest, in its order.

    Splits are those of the run that the weights come from, by its `splits.csv`, where that run was of this cohort: a
    fold of a cross-validation has its own. Otherwise they are those on file.

    Args:
        volumes: of a cohort.
        weights: that are explained.
        scans: a split (train, val, test), all, or ids of scans, of whatever split.
        max_scans: at most as many, drawn by a hash of their ids and so always the same; None: all.

    Raises:
        InputError: no such split, an unknown or excluded scan, or nothing left.
    """
    if max_scans is not None and max_scans < 1:
        raise InputError(f"max_scans must be at least 1, got {max_scans}; null takes all")
    manifest = volumes.manifest
    if not isinstance(scans, list | tuple) and scans not in get_args(Split):
        raise InputError(f"scans must be {', '.join(get_args(Split))} or a list of ids, got {scans!r}")
    if isinstance(scans, str):
        rows = manifest if scans == "all" else manifest[_splits(volumes, weights) == scans]
    else:
        scans = [str(scan) for scan in scans]  # Hydra reads [17] as a number
        if unknown := [scan for scan in scans if scan not in set(manifest["scan_id"])]:
            if isinstance(volumes, VolumeStore) and unknown[0] in volumes.excluded:
                raise InputError(
                    f"scans: {unknown[0]} is left out by the cohort's exclude.csv ({volumes.excluded[unknown[0]]}); "
                    "take its line out there, or choose another scan"
                )
            raise InputError(
                f"scans: {unknown[0]} is not in {volumes.path}, whose ids look like {manifest['scan_id'].iloc[0]}"
            )
        rows = manifest[manifest["scan_id"].isin(scans)]
    if rows.empty:
        raise InputError(f"{volumes.path}: no scan to explain with scans={scans}; choose others, or scans=all")
    if max_scans is not None:
        drawn = sorted(rows["scan_id"], key=lambda scan: hashlib.sha256(scan.encode()).hexdigest())[:max_scans]
        rows = rows[rows["scan_id"].isin(drawn)]
    return rows


def _splits(volumes: Volumes, weights: Weights) -> "pd.Series[str]":
    """The split of each scan."""
    file = Path(weights.path) / "splits.csv"
    if weights.record.get("dataset", {}).get("cohort") != volumes.cohort or not file.is_file():
        return volumes.manifest["split"]
    table = read_table(file)
    return volumes.manifest["subject_id"].map(dict(zip(table["subject_id"], table["split"], strict=True)))
