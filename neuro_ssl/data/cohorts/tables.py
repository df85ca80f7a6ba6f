"""What a cohort's own tables say of its images: joined by a key, with repeated and contradicting rows told."""

import string
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.data.dataset import code_text
from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SubjectTable:
    """A table with one row a subject, or a visit, and how it belongs to the images.

    Rows of the same key that agree count once. Where they contradict each other, nobody knows which one is right: the
    value is missing, with a warning. (Others keep the first row, whatever it says.)

    Attributes:
        where: the configuration key, for messages.
        file: relative to the cohort's root; a pattern (`aibl_pdxconv_*.csv`) must match one file. Of an Excel file the
            export under the same name with the ending csv, tsv or parquet is read, if there is one.
        key: a column of the images → the table's, or a format of it such as `IXI{IXI_ID:0>3}`.
        columns: our name → the table's.
    """

    where: str
    file: str
    key: Mapping[str, str]
    columns: Mapping[str, str]

    @classmethod
    def of(cls, where: str, node: Mapping[str, Any]) -> "SubjectTable":
        """From configuration.

        Raises:
            InputError: an unknown, missing or mistyped key.
        """
        known = [field.name for field in fields(cls) if field.name != "where"]
        for name in node:
            if name not in known:
                raise InputError(f"{where}.{name} is no key; it takes {', '.join(known)}")
        for name in known:
            if not isinstance(node.get(name), str if name == "file" else Mapping):
                raise InputError(f"{where}.{name}: needed, as {'a file' if name == 'file' else 'a mapping'}")
        return cls(where=where, **node)

    def join(self, frame: pd.DataFrame, root: Path) -> pd.DataFrame:
        """Add the table's columns to the images, where they don't have values yet.

        Args:
            frame: one row an image.
            root: the cohort's folder.

        Raises:
            InputError: no table, several, or a column that is not there.

        Warns:
            UserWarning: repeated or contradicting rows, or images that the table doesn't know.
        """
        path = self._find(root)
        table = read_table(path)
        keys = list(self.key)
        data = {name: self._formatted(table, form, path) for name, form in self.key.items()}
        for ours, theirs in self.columns.items():
            if theirs not in table:
                raise InputError(f"{self.where}.columns.{ours}: {missing_column(theirs, table.columns, str(path))}")
            data[ours] = table[theirs]
        rows = self._one_a_key(pd.DataFrame(data).dropna(subset=keys), path)
        wanted = frame[keys].map(code_text)
        joined = wanted.merge(rows, how="left", on=keys, indicator="_from")
        unknown = joined["_from"] == "left_only"
        if unknown.any():
            first = ", ".join(wanted[unknown.to_numpy()].agg(" ".join, axis=1).unique()[:3])
            warnings.warn(
                f"{path}: no row for {int(unknown.sum())} of {len(frame)} images, such as {first}", stacklevel=4
            )
        frame = frame.copy()
        for name in self.columns:
            new = joined[name].set_axis(frame.index)
            frame[name] = frame[name].combine_first(new) if name in frame else new
        return frame

    def _find(self, root: Path) -> Path:
        exports = [str(Path(self.file).with_suffix(ending)) for ending in (".csv", ".tsv", ".parquet")]
        for pattern in [*exports, self.file] if self.file.lower().endswith((".xls", ".xlsx")) else [self.file]:
            found = sorted(root.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
            found = [path for path in found if path.is_file()]
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise InputError(f"{self.where}.file={pattern}: {root} holds {len(found)}: {names}; name one")
            if found:
                return found[0]
        raise InputError(f"{self.where}.file={self.file}: not in {root}; put it there, or name the file")

    def _formatted(self, table: pd.DataFrame, form: str, path: Path) -> "pd.Series[Any]":
        """The key's column as the images have it."""
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(form) if name is not None]
            form.format(**dict.fromkeys(names, "1"))
        except (ValueError, LookupError) as error:
            raise InputError(f"{self.where}.key={form!r}: {error}") from error
        for name in names or [form]:
            if name not in table:
                raise InputError(f"{self.where}.key: {missing_column(name, table.columns, str(path))}")
        if not names:
            return table[form].map(code_text, na_action="ignore")
        rows = table[names].astype(object)
        return pd.Series(
            [
                None
                if row.isna().any()
                else form.format(**{str(name): code_text(value) for name, value in row.items()})
                for _, row in rows.iterrows()
            ],
            index=table.index,
            dtype="str",
        )

    def _one_a_key(self, rows: pd.DataFrame, path: Path) -> pd.DataFrame:
        keys = list(self.key)
        repeated = rows[rows.duplicated(keys, keep=False)]
        if repeated.empty:
            return rows
        groups = repeated.groupby(keys, sort=False)
        conflicts = groups.nunique(dropna=True) > 1
        agreed = groups.first().mask(conflicts).reset_index()  # `first`: of what is known
        contradicting = int(conflicts.any(axis=1).sum())
        note = f"{path}: {len(groups)} keys have several rows, which count once"
        if contradicting:
            first = conflicts.any(axis=1).idxmax()
            named = " ".join(map(str, first)) if isinstance(first, tuple) else first
            which = ", ".join(conflicts.columns[conflicts.any()])
            note += f"; {contradicting} of them contradict themselves in {which}, which is missing there: {named}, …"
        warnings.warn(note, stacklevel=5)
        return pd.concat([rows[~rows.duplicated(keys, keep=False)], agreed], ignore_index=True)
