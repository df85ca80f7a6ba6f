"""What encoders made of scans: the features in evaluations' results and in files of `neuro_ssl.embed`."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import yaml

from neuro_ssl.errors import InputError

MAX_SCANS = 2000  # of a file of `embed`; evaluations draw theirs when they are written
KNOWN = ("age_years", "sex", "diagnosis", "nihss", "site", "scanner", "cohort")  # of such a file's columns


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoder's features.

    Attributes:
        name: of the encoder.
        features: (scans, features).
        seen: (scans,), whether the encoder was trained on this person or image; None where that isn't known.
    """

    name: str
    features: npt.NDArray[np.float64]
    seen: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class ScanSet:
    """Scans, and what each of several encoders made of them.

    Attributes:
        cohort: whose scans.
        simulated: whether they are.
        scans: one row each: `scan_id`, `subject_id`, `split`, and what points are coloured by; ids are never shown.
        n_all: how many scans these were drawn from.
        held_out: whether no encoder of the evaluation was fitted to them.
        encoders: in the order of the figures.
        warnings: lines for the top of the page.
    """

    cohort: str
    simulated: bool
    scans: pd.DataFrame
    n_all: int
    held_out: bool
    encoders: list[Encoded] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def of_evaluations(results: Sequence[Path]) -> list[ScanSet]:
    """The held-out scans of evaluations, each set once; evaluations of an earlier version have none.

    Args:
        results: directories with an `evaluation.yaml`; unfinished ones are passed over.

    Raises:
        InputError: a file of features is damaged.
    """
    sets: dict[str, ScanSet] = {}
    for folder in results:
        record = yaml.safe_load((folder / "evaluation.yaml").read_text(encoding="utf-8"))
        if not record.get("finished") or not (folder / "features.parquet").is_file():
            continue
        try:
            table = pd.read_parquet(folder / "features.parquet")
        except (OSError, ValueError) as error:  # pyarrow's errors are of these
            remedy = "delete it to report without it"
            raise InputError(f"{folder / 'features.parquet'}: unreadable ({error}); {remedy}") from error
        for (cohort, model), rows in table.groupby(["cohort", "model"], sort=False):
            rows = rows.reset_index(drop=True)
            features = np.stack(rows["features"].tolist()).astype(np.float64)
            if rows["role"].iloc[0] == "image_statistics":  # ml and intensities share no scale
                features = (features - features.mean(axis=0)) / features.std(axis=0).clip(min=1e-12)
            scans = rows.drop(columns=["model", "role", "cohort", "n_held_out", "features"])
            simulated = bool(record["data"][cohort]["simulated"])
            known = ScanSet(str(cohort), simulated, scans, int(rows["n_held_out"].iloc[0]), True)
            _add(sets.setdefault(_key(str(cohort), scans), known), Encoded(str(model), features), folder)
    return list(sets.values())


def of_files(files: Sequence[str]) -> list[ScanSet]:
    """All scans of files of `neuro_ssl.embed`; files of the same scans are shown together.

    Raises:
        InputError: a file isn't there, or is another kind of file.
    """
    sets: dict[str, ScanSet] = {}
    for name in files:
        table, about = _read(Path(name))
        cohort, weights = about["made_by"]["store"]["cohort"], about["made_by"]["weights"]
        n_all = len(table)
        if n_all > MAX_SCANS:  # the same of every file: by the scans alone
            table = table.sort_values("scan_id").sample(MAX_SCANS, random_state=0).sort_index()
        columns = [column for column in table if re.fullmatch(r"f\d+", str(column))]
        features = table[columns].to_numpy(np.float64)
        if not np.isfinite(features).all():
            raise InputError(f"embeddings={name}: features that are no numbers; have the weights diverged?")
        scans = table[[c for c in ("scan_id", "subject_id", "split", *KNOWN) if c in table]].reset_index(drop=True)
        known = ScanSet(cohort, bool(about.get("simulated")), scans, n_all, False)
        scan_set = sets.setdefault(_key(cohort, scans), known)
        seen, file = table["seen_in_training"], Path(name).name
        if seen.isna().any():
            scan_set.warnings.append(f"{file}: {weights} doesn't say whom it was trained on.")
        elif seen.any():
            scan_set.warnings.append(
                f"{file}: {weights} was trained on {int(seen.sum())} of these {len(seen)} scans or persons (hollow "
                "marks): those may lie better apart than new people's would."
            )
        _add(scan_set, Encoded(weights, features, None if seen.isna().any() else seen.to_numpy(bool)), Path(name))
    return list(sets.values())


def _read(file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A file of `embed`, and what its metadata say."""
    from neuro_ssl.embedding import METADATA  # needs Lightning, which takes seconds to import

    if not file.is_file():
        raise InputError(f"embeddings={file}: no such file; python -m neuro_ssl.embed output={file} makes it")
    try:
        return pd.read_parquet(file), json.loads(pq.read_schema(file).metadata[METADATA])
    except (KeyError, TypeError, ValueError, OSError) as error:  # pyarrow's errors are of these
        raise InputError(f"embeddings={file}: not a file of python -m neuro_ssl.embed") from error


def _key(cohort: str, scans: pd.DataFrame) -> str:
    return hashlib.sha256("\n".join([cohort, *scans["scan_id"]]).encode()).hexdigest()


def _add(scan_set: ScanSet, encoded: Encoded, source: Path) -> None:
    """Add an encoder; the same features twice are one, and other ones of the same name say where they come from."""
    for other in scan_set.encoders:
        if np.array_equal(other.features, encoded.features):
            return
    if encoded.name in [other.name for other in scan_set.encoders]:
        encoded = Encoded(f"{encoded.name} ({source.name})", encoded.features, encoded.seen)
    scan_set.encoders.append(encoded)
