"""The manifest: one row a scan. Its schema is checked on every read, and errors name file, row, column and remedy.

Needed are `subject_id` (`cohort/subject`) and `image_path`; the other known columns are optional, and unknown ones
pass through. The paper's tables (`image_path`, `mask_path`, `label`) are read as they are.
"""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError

SPLITS = ("train", "val", "test")
_SEX = {"f": "F", "female": "F", "w": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def _text(*checks: pa.Check, nullable: bool = True, required: bool = False, unique: bool = False) -> pa.Column:
    return pa.Column(str, list(checks), nullable=nullable, required=required, unique=unique)


def _number(low: float, high: float, remedy: str) -> pa.Column:
    return pa.Column(float, pa.Check.in_range(low, high, error=remedy), nullable=True, required=False)


SCHEMA = pa.DataFrameSchema(
    {
        "subject_id": _text(
            pa.Check.str_matches(r"^[^/]+/[^/]+$", error="a subject id is written cohort/subject"),
            nullable=False,
            required=True,
        ),
        "image_path": _text(nullable=False, required=True, unique=True),
        "person_id": _text(),  # of whoever has several subject ids, see `splits.persons`
        "session_id": _text(),
        "cohort": _text(nullable=False),
        "site": _text(),
        "scanner": _text(),
        "mask_path": _text(),
        "age_years": _number(0, 120, "ages are in years, from 0 to 120"),
        "sex": _text(pa.Check.isin(["F", "M"])),
        "diagnosis": _text(),
        "nihss": _number(0, 42, "NIHSS runs from 0 to 42"),
        "split": _text(pa.Check.isin(SPLITS, error=f"a split is one of {', '.join(SPLITS)}")),
        # Columns of a store's manifest.
        "scan_id": _text(
            pa.Check.str_matches(r"^[\w.-]+$", error="a scan id names a file: letters, digits, '.', '_' and '-'"),
            nullable=False,
            unique=True,
        ),
        "volume": _text(nullable=False, unique=True),
        "volume_hash": _text(nullable=False),
        "image_hash": _text(nullable=False),
        "brain_ml": _number(0, float("inf"), "a volume is not negative"),
    }
)


def validate(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check a manifest and bring it to its canonical types: text, or float64; missing values are null.

    Ids without a cohort get the row's `cohort`, or else the name of the source; words for sex become F and M.

    Args:
        frame: one row a scan.
        source: the file or folder it came from, for messages.

    Returns:
        A copy, with `cohort`, indexed from 0.

    Raises:
        InputError: naming source, row (counted from 1, without the header), column and remedy.

    Warns:
        UserWarning: there is no `subject_id`, so that every scan counts as a subject of its own.
    """
    frame = frame.reset_index(drop=True)
    if frame.empty:
        raise InputError(f"{source}: no scans in it; it needs one row a scan")
    if "image_path" not in frame:
        raise missing_column("image_path", frame.columns, source)
    if "subject_id" not in frame:
        warnings.warn(
            f"{source}: no subject_id column, so every image counts as a subject of its own; "
            "if subjects have several scans, name their column, or splits will leak",
            stacklevel=2,
        )
        own = frame["image_path"].astype("string").str.replace(r"\.nii(\.gz)?$", "", regex=True)
        frame["subject_id"] = own.str.replace(r"[^\w.-]+", "_", regex=True).str.strip("_")
    subject = _as_text(frame["subject_id"])
    has_cohort = subject.str.contains("/", regex=False).fillna(False).astype(bool)
    if "cohort" not in frame:
        frame["cohort"] = subject.str.split("/").str[0].where(has_cohort, Path(source).stem)
    frame["subject_id"] = subject.where(has_cohort, _as_text(frame["cohort"]) + "/" + subject)

    for name, column in SCHEMA.columns.items():
        if name in frame:
            frame[name] = _as_numbers(frame, name, source) if "float" in str(column.dtype) else _as_text(frame[name])
    if "sex" in frame:
        frame["sex"] = frame["sex"].map(lambda word: _SEX.get(word.lower(), word), na_action="ignore").astype("str")
        _check_sex(frame, source)
    for name in frame.columns.difference(list(SCHEMA.columns)):  # labels: numbers where all are, else words
        numbers = pd.to_numeric(frame[name], errors="coerce")
        frame[name] = numbers if numbers.notna().equals(frame[name].notna()) else _as_text(frame[name])
    try:
        checked: pd.DataFrame = SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise InputError(_explain(error.failure_cases, frame, source)) from error
    return checked


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read and validate a manifest, `.parquet`, `.csv` or `.tsv`.

    Raises:
        InputError: unreadable, or against the schema.
    """
    return validate(read_table(path), str(path))


def write_manifest(frame: pd.DataFrame, path: str | Path) -> None:
    """Validate a manifest and write it, as Parquet or CSV by the path's suffix."""
    frame = validate(frame, str(path))
    if Path(path).suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)


def add_scan_ids(manifest: pd.DataFrame) -> pd.DataFrame:
    """Name each scan for the file system: `sub-0001_ses-01`, with `_run-2`, … where that isn't unique."""
    parts = [manifest["subject_id"].str.split("/").str[1]]
    if "session_id" in manifest:
        parts.append(("_" + manifest["session_id"]).fillna(""))
    name = sum(parts[1:], start=parts[0]).str.replace(r"[^\w.-]+", "-", regex=True)
    run = manifest.groupby(name).cumcount() + 1
    return manifest.assign(scan_id=name.where(run == 1, name + "_run-" + run.astype("str")))


def _as_text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    return column.map(lambda value: str(value), na_action="ignore").astype("str")


def _as_numbers(frame: pd.DataFrame, name: str, source: str) -> "pd.Series[Any]":
    numbers = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    wrong = frame.index[numbers.isna() & frame[name].notna()]
    if len(wrong):
        raise InputError(
            f"{_row(frame, wrong[0], source)}, {name}: {frame[name][wrong[0]]!r} is not a number; "
            f"correct it, blank it, or translate it: dataset.values='{{{name}: {{{frame[name][wrong[0]]}: …}}}}'"
        )
    return numbers


def _check_sex(frame: pd.DataFrame, source: str) -> None:
    wrong = frame.index[frame["sex"].notna() & ~frame["sex"].isin(["F", "M"])]
    if len(wrong):
        codes = ", ".join(f"{code}: ?" for code in sorted(frame["sex"][wrong].unique()))
        raise InputError(
            f"{_row(frame, wrong[0], source)}, sex: {frame['sex'][wrong[0]]!r} is neither F nor M; "
            f"say what the codes mean, such as dataset.values='{{sex: {{1: M, 2: F}}}}'; here: {{{codes}}}"
        )


def _row(frame: pd.DataFrame, index: int, source: str) -> str:
    return f"{source}, row {index + 1} ({frame['subject_id'][index]})"


def _explain(failures: pd.DataFrame, frame: pd.DataFrame, source: str) -> str:
    first = failures.sort_values("index", kind="stable").iloc[0]
    if pd.isna(first["index"]):
        return f"{source}, column {first['column']}: {first['check']}, found {first['failure_case']}"
    says = {"not_nullable": "a value is needed", "field_uniqueness": "this value occurs in another row too"}
    remedy = says.get(first["check"], first["check"])
    row = _row(frame, int(first["index"]), source)
    return f"{row}, {first['column']}: {first['failure_case']}: {remedy}"
