"""Scans that a person, or quality control, leaves out of a cohort: `<stores>/<cohort>/exclude.csv`.

The file lies beside `splits.csv` and holds for every store of the cohort. Its volumes stay; `VolumeStore.open` leaves
them out, and with it training, evaluation and reports. Delete a row to take its scan in again.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing, locked

FILE = "exclude.csv"


def read_exclusions(store_dir: str | Path) -> dict[str, str]:
    """The scans that are left out, and why.

    Args:
        store_dir: the cohort's folder of stores.

    Returns:
        scan_id → reason, which may be empty; an empty dictionary if there is no such file.

    Raises:
        InputError: not a table with a column `scan_id`, a row without one, or a scan in two rows.
    """
    path = Path(store_dir) / FILE
    if not path.is_file():
        return {}
    table = _read(path)
    return dict(zip(table["scan_id"], table["reason"].fillna(""), strict=True))


def add_exclusions(store_dir: str | Path, reasons: Mapping[str, str]) -> int:
    """Leave out more scans; rows that are in the file already stay as they are.

    Args:
        store_dir: the cohort's folder of stores.
        reasons: scan_id → reason.

    Returns:
        How many scans are new in the file.

    Raises:
        InputError: the file is damaged, or cannot be written.
    """
    path = Path(store_dir) / FILE
    with locked(path.parent):
        table = _read(path) if path.is_file() else pd.DataFrame(columns=["scan_id", "reason"], dtype="str")
        new = {scan_id: reason for scan_id, reason in reasons.items() if scan_id not in set(table["scan_id"])}
        if new:
            added = pd.DataFrame({"scan_id": list(new), "reason": list(new.values())}, dtype="str")
            with appearing(path) as file:
                pd.concat([table, added]).to_csv(file, index=False)
    return len(new)


def refuse_unknown(store_dir: Path, excluded: Collection[str], known: Collection[str]) -> None:
    """Refuse a name that no scan has: a misspelt one would keep in what is meant to be left out.

    Args:
        store_dir: the cohort's folder of stores.
        excluded: what its `exclude.csv` lists.
        known: the scans of one store.

    Raises:
        InputError: a scan of the list is neither known, nor in another store of the cohort, nor among the scans that
            preprocessing failed for. It suggests the nearest name.
    """
    unknown = set(excluded) - set(known)
    if unknown:
        tables = [*store_dir.glob("*/manifest.parquet"), *store_dir.glob("*/failures.csv")]
        known = set(known).union(*(read_table(table)["scan_id"] for table in tables))
        unknown -= known
    if unknown:
        first = min(unknown)
        close = difflib.get_close_matches(first, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "correct the row, or delete it"
        raise InputError(f"{store_dir / FILE}: no scan {first!r} in cohort {store_dir.name}; {hint}")


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path)
    if "scan_id" not in table:
        raise missing_column("scan_id", table.columns, str(path))
    if "reason" not in table:
        table["reason"] = ""
    if table["scan_id"].isna().any():
        row = int(table["scan_id"].isna().to_numpy().argmax()) + 1
        raise InputError(f"{path}, row {row}: no scan_id; name the scan, or delete the row")
    twice = table["scan_id"][table["scan_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: {twice.iloc[0]} is in two rows; delete one")
    return table
