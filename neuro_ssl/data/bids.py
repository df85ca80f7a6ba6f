"""A cohort in the Brain Imaging Data Structure (bids-specification.readthedocs.io), indexed by bids2table."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bids2table
import pandas as pd

from neuro_ssl.data.dataset import Dataset, translate
from neuro_ssl.data.manifest import validate
from neuro_ssl.data.tabular import MISSING, missing_column, read_table
from neuro_ssl.errors import InputError

Names = str | Mapping[str, str]
Values = Mapping[str, Mapping[Any, str | None]]

# Ours ← columns of participants.tsv and sessions.tsv; the first that is there is taken.
COLUMNS = {
    "age_years": ("age", "age_years"),
    "sex": ("sex", "gender"),
    "site": ("site",),
    "scanner": ("scanner",),
    "diagnosis": ("diagnosis", "group"),
    "nihss": ("nihss",),
}


@dataclass(frozen=True, kw_only=True)
class BIDSDataset(Dataset):
    """The T1w images of a BIDS dataset, with what participants.tsv and each subject's sessions.tsv say of them.

    Of several T1w images in one session, those of `acq` are taken, and of several of these the one with the highest
    run.

    Args:
        cohort: see `Dataset`, as root, grid and stores_dir.
        columns: our name → the column of participants.tsv or sessions.tsv, where it isn't one of `COLUMNS`, such as
            `{"sex": "Gender"}`; for a column for each session, by session:
            `{"age_years": {"ses-wave1": "AgeMRI_W1", "ses-wave2": "AgeMRI_W2"}}`.
        values: the dataset's codes → our words, by our column, such as `{"sex": {1: "M", 2: "F"}}`; None: missing.
        acq: of the T1w images, take those with this `acq-` label alone.
        mask_derivative: the folder under `derivatives/` with the images' brain masks (`desc-brain_mask`), or None.
        parts: folders in root that are each a BIDS dataset, for a cohort published in several; patterns such as `*`
            count. A part's name is the site of its scans where its tables name none. None: root is the dataset.
        shared_subjects: whether a subject id means the same person in every part; otherwise it is prefixed by the part.
    """

    columns: Mapping[str, Names] | None = None
    values: Values | None = None
    acq: str | None = None
    mask_derivative: str | None = None
    parts: Sequence[str] | None = None
    shared_subjects: bool = False

    @property
    def simulated(self) -> bool:
        """Whether dataset_description.json names `neuro_ssl.simulate` under GeneratedBy."""
        makers = [maker for folder in self._folders() for maker in _description(folder).get("GeneratedBy", [])]
        return any(maker.get("Name") == "neuro_ssl.simulate" for maker in makers)

    def scans(self) -> pd.DataFrame:
        """Index the dataset.

        Raises:
            InputError: no BIDS dataset, no T1w image in it, several masks for one image, an unknown column, or a row
                against the manifest's schema.

        Warns:
            UserWarning: which images were passed over for a later run, or have another `acq`.
        """
        source = str(self.root_dir)
        frame = pd.concat([self._part(folder) for folder in self._folders()], ignore_index=True)
        for name in self.values or {}:
            if name not in frame:
                raise InputError(f"dataset.values.{name}: {source} gives no column {name}; see dataset.columns")
        return validate(frame, source)

    def _folders(self) -> list[Path]:
        """The BIDS datasets that this one consists of."""
        root = self.root_dir
        if self.parts is None:
            return [root]
        folders = []
        for part in self.parts:
            found = sorted(folder for folder in root.glob(part) if any(folder.glob("sub-*")))
            if not found:
                raise InputError(f"dataset.parts: no BIDS dataset {root / part}; leave it out of dataset.parts")
            folders += found
        return folders

    def _part(self, folder: Path) -> pd.DataFrame:
        _description(folder)
        images = self._one_a_session(_index(folder, "T1w"), folder)
        frame = pd.DataFrame(
            {
                "subject_id": "sub-" + images["sub"],
                "session_id": "ses-" + images["ses"],
                "cohort": self.name,
                "image_path": images["file"],
            }
        )
        if self.mask_derivative is not None:
            masks = self._masks(folder / "derivatives" / self.mask_derivative)
            frame["mask_path"] = [
                masks.get((sub, ses, run)) or masks.get((sub, ses, ""))
                for sub, ses, run in zip(images["sub"], images["ses"].fillna(""), images["run_text"], strict=True)
            ]
        frame = self._with_phenotype(frame, folder)
        if self.parts is not None:
            frame["site"] = frame["site"].fillna(folder.name) if "site" in frame else folder.name
            if not self.shared_subjects:
                frame["subject_id"] = f"{folder.name}_" + frame["subject_id"]
        return frame

    def _one_a_session(self, images: pd.DataFrame, folder: Path) -> pd.DataFrame:
        if images.empty:
            raise InputError(f"{folder}: no T1w image in this dataset (sub-*/[ses-*/]anat/*_T1w.nii.gz)")
        if self.acq is not None:
            wanted = images["acq"] == self.acq
            if not wanted.any():
                have = ", ".join(sorted(images["acq"].dropna().unique())) or "none"
                raise InputError(f"dataset.acq={self.acq}: no T1w image in {folder} has acq-{self.acq}; labels: {have}")
            _warn_passed_over(folder, images["file"][~wanted], f"are not acq-{self.acq} and are left out")
            images = images[wanted]
        images = images.sort_values(["sub", "ses", "run", "file"], na_position="first")
        chosen = ~images.duplicated(["sub", "ses"], keep="last")
        _warn_passed_over(
            folder, images["file"][~chosen], "have a later run in their session, which is taken instead of them"
        )
        return images[chosen].reset_index(drop=True)

    def _masks(self, folder: Path) -> dict[tuple[str, str, str], str]:
        if not folder.is_dir():
            raise InputError(f"dataset.mask_derivative={self.mask_derivative}: no folder {folder}")
        masks = _index(folder, "mask")
        masks = masks[(masks["desc"] == "brain") & masks["space"].isna()].fillna({"ses": ""})
        repeated = masks[masks.duplicated(["sub", "ses", "run_text"])]
        if len(repeated):
            raise InputError(f"{repeated['file'].iloc[0]}: a second brain mask for the same subject, session and run")
        return dict(zip(zip(masks["sub"], masks["ses"], masks["run_text"], strict=True), masks["file"], strict=True))

    def _with_phenotype(self, frame: pd.DataFrame, root: Path) -> pd.DataFrame:
        """Add what is known of each subject, and over it what is known of the session."""
        participants = root / "participants.tsv"
        known: set[str] = set()
        if participants.is_file():
            table = _with_ids(participants, "participant_id", "sub-")
            table["subject_id"] = table["participant_id"]
            known.update(map(str, table))
            frame = frame.merge(self._phenotype(table, ["subject_id"]), how="left", on="subject_id")
        keys = ["subject_id", "session_id"]
        files = {subject: root / subject / f"{subject}_sessions.tsv" for subject in frame["subject_id"].unique()}
        of_sessions = _read_sessions({subject: path for subject, path in files.items() if path.is_file()})
        known.update(map(str, of_sessions))
        frame = self._columns_of_sessions(frame)
        for ours, theirs in self._named():
            if theirs not in known:
                raise InputError(f"dataset.columns.{ours}: {missing_column(theirs, known, str(participants))}")
        if of_sessions.empty:
            return frame
        of_session = frame[keys].merge(self._phenotype(of_sessions, keys), how="left", on=keys)
        of_session = self._columns_of_sessions(of_session)
        for name in of_session.columns.difference(keys):
            frame[name] = of_session[name].combine_first(frame[name]) if name in frame else of_session[name]
        return frame

    def _named(self) -> list[tuple[str, str]]:
        """(ours, theirs) for every column that `columns` names."""
        return [
            (ours, theirs)
            for ours, names in (self.columns or {}).items()
            for theirs in ([names] if isinstance(names, str) else names.values())
        ]

    def _phenotype(self, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
        """The keys and the columns that a manifest knows, under our names and in our words.

        A column for one session is named by both, see `_columns_of_sessions`.
        """
        data = {key: table[key] for key in keys}
        for name, candidates in COLUMNS.items():
            if name not in (self.columns or {}) and (found := next((c for c in candidates if c in table), None)):
                data[name] = self._translated(table[found], name)
        for name, names in (self.columns or {}).items():
            for session, column in [("", names)] if isinstance(names, str) else names.items():
                if column in table:
                    data[f"{name}@{session}" if session else name] = self._translated(table[column], name)
        return pd.DataFrame(data)

    def _translated(self, column: "pd.Series[Any]", name: str) -> "pd.Series[Any]":
        """In our words: before sessions go over subjects, or a code for missing would cover what is known."""
        words = (self.values or {}).get(name)
        return column if words is None else translate(column.to_frame(name), {name: words}, "")[name]

    def _columns_of_sessions(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Put together the columns that each hold for one session."""
        for name in {column.partition("@")[0] for column in frame.columns if "@" in column}:
            merged = pd.Series(None, index=frame.index, dtype="str")
            for column in [column for column in frame.columns if column.startswith(f"{name}@")]:
                merged = merged.mask(frame["session_id"] == column.partition("@")[2], frame[column])
                frame = frame.drop(columns=column)
            frame[name] = merged
        return frame


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "dataset_description.json"
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: not there, so dataset.root is not the root of a BIDS dataset") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); mend it") from error
    if not isinstance(description, dict):
        raise InputError(f"{path}: not valid JSON for BIDS: an object with Name and BIDSVersion is needed")
    return description


def _with_ids(path: Path, column: str, prefix: str) -> pd.DataFrame:
    """A participants or sessions file whose ids have the prefix that BIDS wants and some datasets leave out."""
    table = read_table(path)
    if column not in table:
        raise missing_column(column, table.columns, str(path))
    ids = table[column].map(lambda label: label if label.startswith(prefix) else prefix + label, na_action="ignore")
    if ids.duplicated().any():
        raise InputError(f"{path}: {column} {table[column][ids.duplicated()].iloc[0]} has several rows; keep one")
    table[column] = ids
    return table


def _read_sessions(files: Mapping[str, Path]) -> pd.DataFrame:
    """The sessions files of all subjects, with `subject_id`: plain ones at once, as pandas takes 3 ms for each."""
    plain: dict[tuple[str, ...], list[list[str]]] = {}
    tables = []
    for subject, path in files.items():
        lines = [line.split("\t") for line in path.read_bytes().decode("utf-8", "replace").splitlines() if line.strip()]
        header = [name.strip() for name in lines[0]] if lines else []
        labels = [line[0].strip() for line in lines[1:]]
        if (
            header[:1] == ["session_id"]
            and len({"subject_id", *header}) == len(header) + 1
            and all(len(line) == len(header) for line in lines)
            and all(label.startswith("ses-") for label in labels)
            and len(set(labels)) == len(labels)
            and not any('"' in cell or "\ufffd" in cell for line in lines for cell in line)
        ):
            plain.setdefault(tuple(header), []).extend([subject, *map(str.strip, line)] for line in lines[1:])
        else:  # unusual, or wrong: with messages
            table = _with_ids(path, "session_id", "ses-")
            table["subject_id"] = subject
            tables.append(table)
    for names, rows in plain.items():
        table = pd.DataFrame(rows, columns=["subject_id", *names], dtype="str")
        tables.append(table.mask(table.isin(MISSING)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _warn_passed_over(folder: Path, files: "pd.Series[str]", why: str) -> None:
    if len(files):
        names = [Path(file).name for file in files]
        warnings.warn(
            f"{folder}: {len(names)} T1w images {why}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}",
            stacklevel=4,
        )


def _index(folder: Path, suffix: str) -> pd.DataFrame:
    """The images of one suffix: entities, absolute `file`, and `run_text`, which is empty without a run.

    Raises:
        InputError: a folder that may not be read; bids2table would pass over its images in silence.
    """
    for subject in folder.glob("sub-*"):
        for _ in os.walk(subject, onerror=_refuse):
            pass
    frame: pd.DataFrame = bids2table.index_dataset(folder).to_pandas()
    frame = frame[(frame["suffix"] == suffix) & frame["ext"].isin([".nii", ".nii.gz"])]
    return frame.assign(
        file=[str(folder / path) for path in frame["path"]],
        run_text=["" if pd.isna(run) else str(int(run)) for run in frame["run"]],
    )


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}; get read access to it") from error
