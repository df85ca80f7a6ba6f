"""Tables as users have them: CSV, TSV, Parquet, with errors that name the file and the cure."""

import csv
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from neuro_ssl.errors import InputError

_MISSING = ["", "n/a", "N/A", "NA", "nan", "NaN", "null", "None"]


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table as text, so that an id `007` stays one; `n/a` and its like are null. Parquet keeps its types.

    Raises:
        InputError: missing, empty, of another format, encoding or delimiter, or with rows of unequal length.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    if path.suffix.lower() == ".parquet":
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a readable Parquet file ({error}); write it again") from error
    if delimiter is None:
        raise InputError(f"{path}: a table must be .csv, .tsv or .parquet")
    try:
        frame = pd.read_csv(
            path, sep=delimiter, dtype=str, keep_default_na=False, na_values=_MISSING, encoding="utf-8-sig"
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}); save it with UTF-8 encoding") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(
            f"{path}: not a table with '{delimiter}' between columns and one row a scan: {reason}"
        ) from error
    if len(frame.columns) == 1 and re.search(r"[;,\t|]", frame.columns[0]):
        found = csv.Sniffer().sniff(frame.columns[0], delimiters=";,\t|").delimiter
        raise InputError(f"{path}: its columns are separated by {found!r}, and by its name it needs {delimiter!r}")
    frame.columns = frame.columns.str.strip()
    for name in frame:
        frame[name] = frame[name].str.strip()
    return frame


def missing_column(name: str, available: Iterable[str], source: str) -> InputError:
    """The error for a column that a table lacks, with the name that was probably meant."""
    by_lower = {str(column).lower(): str(column) for column in available}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[close[0]]!r}?" if close else f"it has {', '.join(by_lower.values())}"
    return InputError(f"{source}: no column {name!r}; {hint}")
