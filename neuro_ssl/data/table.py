"""A cohort described by a table with one row a scan, whatever its columns, codes and file names are."""

import glob
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.data.dataset import Dataset, translate
from neuro_ssl.data.manifest import validate
from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TableDataset(Dataset):
    """A CSV, TSV or Parquet table and the images that it lists.

    Args:
        cohort: see `Dataset`, as root, grid and stores_dir.
        table: `.csv`, `.tsv` or `.parquet`, relative to root.
        columns: our name → the table's, such as `{"subject_id": "MRID", "age_years": "Age"}`.
        values: the table's codes → our words, by our column, such as `{"sex": {1: "M", 2: "F"}}`; None: missing.
        image_pattern: path of a row's image relative to root, built from the table's own columns, such as
            `{MRID}_T1.nii.gz`; with `*` and `?` it must match one file. By default the column `image_path` says it.
    """

    table: str | None = None
    columns: Mapping[str, str] | None = None
    values: Mapping[str, Mapping[Any, str | None]] | None = None
    image_pattern: str | None = None

    @property
    def simulated(self) -> bool:
        """Tables describe acquired scans."""
        return False

    def scans(self) -> pd.DataFrame:
        """Read the table and find its images.

        Raises:
            InputError: an unreadable table, an unknown column, images that are not there, or a row against the
                manifest's schema.
        """
        root = self.root_dir
        if self.table is None:
            raise InputError("dataset.table: give the table of the scans, a path relative to dataset.root")
        path = root / self.table
        if not path.is_file():
            raise InputError(f"dataset.table={self.table}: no file {path}")
        table = read_table(path)
        columns = self.columns or {}
        for ours, theirs in columns.items():
            if theirs not in table:
                raise InputError(f"dataset.columns.{ours}: {missing_column(theirs, table.columns, str(path))}")
        frame = table.drop(columns=[*columns.values(), *columns], errors="ignore")
        frame = frame.assign(**{ours: table[theirs] for ours, theirs in columns.items()})
        if self.image_pattern is not None:
            frame["image_path"] = self._find_images(self.image_pattern, table, root, str(path))
        elif "image_path" not in frame:
            raise InputError(
                f"{path}: no column image_path; name it by dataset.columns='{{image_path: …}}', or build it from "
                "others by dataset.image_pattern"
            )
        frame["cohort"] = self.name
        manifest = validate(translate(frame, self.values, str(path)), str(path))
        for column in {"image_path", "mask_path"} & set(manifest):
            manifest[column] = manifest[column].map(lambda file: str(root / file), na_action="ignore")
            missing = [file for file in manifest[column].dropna() if not Path(file).is_file()]
            if missing:
                raise InputError(
                    f"{path}: {len(missing)} of {len(manifest)} files of {column} are not there: "
                    f"{', '.join(missing[:3])}; correct their paths, or take their rows out"
                )
        return manifest

    def _find_images(self, pattern: str, table: pd.DataFrame, root: Path, source: str) -> list[str]:
        """The one file that the pattern matches, for each row."""
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
        except ValueError as error:
            raise InputError(f"dataset.image_pattern={pattern!r}: {error}") from error
        for name in names:
            if name not in table:
                raise InputError(f"dataset.image_pattern: {missing_column(name, table.columns, source)}")
        images, problems = [], []
        for row in table.astype(str).to_dict("records"):
            expected = pattern.format(**{str(name): text for name, text in row.items()})
            found = glob.glob(expected, root_dir=root)  # noqa: PTH207 - Path.glob refuses absolute patterns
            if len(found) == 1:
                images.append(found[0])
            else:
                problems.append(f"{expected} ({len(found)} files)")
        if problems:
            raise InputError(
                f"{source}: dataset.image_pattern must match one file in {root} for each row, and it does not for "
                f"{len(problems)} of {len(table)} rows: {', '.join(problems[:3])}"
            )
        return images
