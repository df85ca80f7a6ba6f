"""Stand-in, to be replaced: `exclude.csv` of a cohort."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def read_exclusions(store_dir: str | Path) -> dict[str, str]:
    """scan_id → reason."""
    path = Path(store_dir) / "exclude.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype=str).fillna("")
    return dict(zip(table["scan_id"], table["reason"], strict=True))


def add_exclusions(store_dir: str | Path, reasons: Mapping[str, str]) -> int:
    """Add scans; rows that are there stay."""
    have = read_exclusions(store_dir)
    rows = {**reasons, **have}
    pd.DataFrame(rows.items(), columns=["scan_id", "reason"]).to_csv(Path(store_dir) / "exclude.csv", index=False)
    return len(rows) - len(have)
