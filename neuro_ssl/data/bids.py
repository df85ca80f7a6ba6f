"""A cohort in the Brain Imaging Data Structure (bids-specification.readthedocs.io), indexed by bids2table."""

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bids2table
import pandas as pd

from neuro_ssl.data.dataset import Dataset, translate
from neuro_ssl.data.manifest import validate
from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError

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

    Of several T1w images in one session the one with the highest run is taken.

    Args:
        cohort: see `Dataset`, as root, grid and stores_dir.
        values: the dataset's codes → our words, by our column, such as `{"sex": {1: "M", 2: "F"}}`.
        mask_derivative: the folder under `derivatives/` with the images' brain masks (`desc-brain_mask`), or None.
    """

    values: Mapping[str, Mapping[Any, str]] | None = None
    mask_derivative: str | None = None

    @property
    def simulated(self) -> bool:
        """Whether dataset_description.json names `neuro_ssl.simulate` under GeneratedBy."""
        return any(maker.get("Name") == "neuro_ssl.simulate" for maker in self._description().get("GeneratedBy", []))

    def scans(self) -> pd.DataFrame:
        """Index the dataset.

        Raises:
            InputError: no BIDS dataset, no T1w image in it, several masks for one image, or a row against the
                manifest's schema.

        Warns:
            UserWarning: which images were passed over for a later run.
        """
        root = self.root_dir
        self._description()
        images = self._one_a_session(_index(root, "T1w"))
        frame = pd.DataFrame(
            {
                "subject_id": "sub-" + images["sub"],
                "session_id": "ses-" + images["ses"],
                "cohort": self.name,
                "image_path": images["file"],
            }
        )
        if self.mask_derivative is not None:
            masks = self._masks(root / "derivatives" / self.mask_derivative)
            frame["mask_path"] = [
                masks.get((sub, ses, run)) or masks.get((sub, ses, ""))
                for sub, ses, run in zip(images["sub"], images["ses"].fillna(""), images["run_text"], strict=True)
            ]
        frame = self._with_phenotype(frame, root)
        return validate(translate(frame, self.values, str(root)), str(root))

    def _description(self) -> dict[str, Any]:
        path = self.root_dir / "dataset_description.json"
        try:
            description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: not there, so dataset.root is not the root of a BIDS dataset") from error
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); mend it") from error
        if not isinstance(description, dict):
            raise InputError(f"{path}: not valid JSON for BIDS: an object with Name and BIDSVersion is needed")
        return description

    def _one_a_session(self, images: pd.DataFrame) -> pd.DataFrame:
        if images.empty:
            raise InputError(f"{self.root}: no T1w image in this dataset (sub-*/[ses-*/]anat/*_T1w.nii.gz)")
        images = images.sort_values(["sub", "ses", "run", "file"], na_position="first")
        chosen = ~images.duplicated(["sub", "ses"], keep="last")
        if not chosen.all():
            passed = [Path(file).name for file in images["file"][~chosen]]
            warnings.warn(
                f"{self.root}: {len(passed)} T1w images have a later run in their session, which is taken instead of "
                f"them: {', '.join(passed[:3])}{', …' if len(passed) > 3 else ''}",
                stacklevel=3,
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
        if (root / "participants.tsv").is_file():
            people = _phenotype(root / "participants.tsv", "participant_id", "subject_id")
            frame = frame.merge(people, how="left", on="subject_id")
        sessions = []
        for subject in frame["subject_id"].unique():
            path = root / subject / f"{subject}_sessions.tsv"
            if path.is_file():
                sessions.append(_phenotype(path, "session_id", "session_id").assign(subject_id=subject))
        if not sessions:
            return frame
        keys = ["subject_id", "session_id"]
        of_session = frame[keys].merge(pd.concat(sessions), how="left", on=keys)
        for name in of_session.columns.difference(keys):
            frame[name] = of_session[name].combine_first(frame[name]) if name in frame else of_session[name]
        return frame


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


def _phenotype(path: Path, theirs: str, ours: str) -> pd.DataFrame:
    """The columns of a participants or sessions file that a manifest knows, under our names."""
    table = read_table(path)
    if theirs not in table:
        raise missing_column(theirs, table.columns, str(path))
    if table[theirs].duplicated().any():
        raise InputError(
            f"{path}: {theirs} {table[theirs][table[theirs].duplicated()].iloc[0]} has several rows; keep one"
        )
    found = {name: next((column for column in names if column in table), None) for name, names in COLUMNS.items()}
    return pd.DataFrame({ours: table[theirs]} | {name: table[column] for name, column in found.items() if column})
