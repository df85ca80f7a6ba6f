"""Tables as users have them: CSV, TSV, Parquet, Excel, with errors that name the file and the cure."""

import csv
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pandas as pd

from neuro_ssl.errors import InputError

MISSING = ["", "n/a", "N/A", "NA", "nan", "NaN", "null", "None"]


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table as text, so that an id `007` stays one; `n/a` and its like are null. Parquet keeps its types.

    Of an Excel file the first sheet is read.

    Raises:
        InputError: missing, empty, of another format, encoding or delimiter, with rows of unequal length, or an Excel
            file without the packages that read it.
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
    if path.suffix.lower() in (".xls", ".xlsx"):
        return _tidied(_read_excel(path))
    if delimiter is None:
        raise InputError(f"{path}: a table must be .csv, .tsv, .parquet, .xls or .xlsx")
    try:
        frame = pd.read_csv(
            path, sep=delimiter, dtype=str, keep_default_na=False, na_values=MISSING, encoding="utf-8-sig"
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
    return _tidied(frame)


def _read_excel(path: Path) -> pd.DataFrame:
    try:
        # pandas would look into the file for its format, and fail there without a reader
        reader: Literal["xlrd", "openpyxl"] = "xlrd" if path.suffix.lower() == ".xls" else "openpyxl"
        return pd.read_excel(path, engine=reader, dtype=str, keep_default_na=False, na_values=MISSING)
    except ImportError as error:
        raise InputError(
            f"{path}: an Excel file needs pip install 'neuro_ssl[excel]'; or save it as {path.with_suffix('.csv').name}"
        ) from error
    except Exception as error:  # the readers of both formats have exceptions of their own
        raise InputError(f"{path}: not a readable Excel file ({error}); save it as CSV") from error


def _tidied(frame: pd.DataFrame) -> pd.DataFrame:
    frame.columns = frame.columns.astype(str).str.strip()
    for name in frame:
        frame[name] = frame[name].str.strip()
    return frame


def missing_column(name: str, available: Iterable[str], source: str) -> InputError:
    """The error for a column that a table lacks, with the name that was probably meant."""
    by_lower = {str(column).lower(): str(column) for column in available}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[close[0]]!r}?" if close else f"it has {', '.join(by_lower.values())}"
    return InputError(f"{source}: no column {name!r}; {hint}")
