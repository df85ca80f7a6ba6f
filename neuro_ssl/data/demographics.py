"""Who is in a split, in numbers: ages and sexes by subject, for records that name nobody."""

from typing import Any

import pandas as pd


def demographics(manifest: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Ages and sexes of the subjects of each split, as far as the manifest tells them.

    A subject counts once, with the age at its first scan.

    Args:
        manifest: with `subject_id` and `split`.

    Returns:
        By split, `age_years` (n, mean, sd, min, max, to a tenth) and `sex` (n of each), of those that are known.
    """
    found: dict[str, dict[str, Any]] = {}
    for split, scans in manifest.groupby("split"):
        subjects, of_split = scans.groupby("subject_id"), {}
        if "age_years" in scans and len(age := subjects["age_years"].min().dropna().astype(float)):
            numbers = {"mean": age.mean(), "sd": age.std(), "min": age.min(), "max": age.max()}
            known = {name: round(float(x), 1) for name, x in numbers.items() if pd.notna(x)}
            of_split["age_years"] = {"n": len(age), **known}
        if "sex" in scans and len(sex := subjects["sex"].first().dropna()):
            of_split["sex"] = {str(name): int(n) for name, n in sex.value_counts().sort_index().items()}
        if of_split:
            found[str(split)] = of_split
    return found
