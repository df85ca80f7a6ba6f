"""A cohort downloaded from the LONI Image & Data Archive (ida.loni.usc.edu): ADNI, AIBL, HABS-HD, MCSA, NIFD, PPMI.

The archive's files, unzipped over each other, and the collection's CSV, which its page "Data Collections" gives:

    root/ADNI/002_S_0295/MPR__GradWarp__B1_Correction__N3__Scaled/2006-04-18_08_20_30.0/I45108/ADNI_…_I45108.nii
    root/collection.csv
        Image Data ID, Subject, Group, Sex, Age, Visit, Modality, Description, Type, Acq Date, Format, Downloaded

Folders don't matter: an image is known by its id, in its file's or its folder's name. The archive gives DICOM unless
NIfTI is asked for.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.data.cohorts.files import files
from neuro_ssl.data.cohorts.tables import SubjectTable
from neuro_ssl.data.dataset import Dataset, code_text, translate
from neuro_ssl.data.manifest import validate
from neuro_ssl.data.tabular import missing_column, read_table
from neuro_ssl.errors import InputError

# Ours ← columns of a collection's CSV, and of the CSV that a search gives (idaSearch.csv).
COLUMNS = {
    "image_id": ("Image Data ID", "Image ID"),
    "subject_id": ("Subject", "Subject ID"),
    "session_id": ("Visit",),
    "date": ("Acq Date", "Study Date"),
    "description": ("Description",),
    "modality": ("Modality",),
    "diagnosis": ("Group", "Research Group"),
    "sex": ("Sex",),
    "age_years": ("Age",),
}
NEEDED = ("image_id", "subject_id", "description")
_IMAGE_ID = re.compile(r"(?:^|[_/])I(\d+)(?=[_./]|$)")
_NAMED = 3  # examples in a message


@dataclass(frozen=True, kw_only=True)
class IDADataset(Dataset):
    r"""The T1-weighted images of an IDA collection, one for each day that a subject was scanned.

    Args:
        cohort: see `Dataset`, as root, grid and stores_dir.
        collection: the collection's CSV, relative to root; where a pattern matches several files, those with a column
            `Image Data ID` are it, together.
        t1: regular expression of the descriptions of T1-weighted series, found anywhere, in upper or lower case.
        not_t1: of descriptions that are none all the same.
        prefer: regular expressions of descriptions; of a day's images the one that the earliest of them finds is taken,
            and of several such the one with the lowest image id, which was archived first.
        visits: the archive's visit → session, such as `{"Base": "bl", "18 Mo": "m18"}`; others stay.
        subject_pattern: regular expression of a whole subject id, whose named groups become columns:
            `(?P<site>\d{3})_S_\d+`.
        clinical: a table of the visits (see `SubjectTable`), its key of `subject_id` and `session_id`. Its columns
            replace the archive's: with `diagnosis`, a scan without a row has none. None: the archive's group is the
            diagnosis, which is the one at enrolment.
        values: the archive's and the table's codes → our words, by our column; None: missing.
        skip_groups: groups that are no subjects, such as phantoms.
    """

    collection: str = "*.csv"
    t1: str = r"mp.?rage|\bmpr\b|mpr[-_]|spgr|bravo|tfe|t1"
    not_t1: str = r"locali[sz]er|scout|survey|calibration|flair|(?<![a-z])t2|phase\b|mask"
    prefer: Sequence[str] = ()
    visits: Mapping[Any, str] | None = None
    subject_pattern: str | None = None
    clinical: Mapping[str, Any] | None = None
    values: Mapping[str, Mapping[Any, str | None]] | None = None
    skip_groups: Sequence[str] = ()

    @property
    def simulated(self) -> bool:
        """They are acquired scans."""
        return False

    def scans(self) -> pd.DataFrame:
        """Read the collection and find its images.

        Raises:
            InputError: no collection, a collection that lacks a column, no T1-weighted series in it, DICOM instead of
                NIfTI, or a row against the manifest's schema.

        Warns:
            UserWarning: images that aren't there, that are there in several files, or that the collection doesn't know.
        """
        root = self.root_dir
        clinical = None if self.clinical is None else SubjectTable.of("dataset.clinical", self.clinical)
        listed = self._read_collection(root)
        frame = self._t1_weighted(listed, root)
        frame = self._with_images(frame, set(listed["image_id"]), root)
        frame = self._one_a_day(frame)
        if self.subject_pattern is not None:
            frame = self._with_groups_of_subject(frame)
        frame = frame.assign(cohort=self.name)
        if clinical is not None:
            frame = clinical.join(frame.drop(columns=list(clinical.columns), errors="ignore"), root)
        frame = frame.drop(columns=["description", "modality", "date", "rank", "number"], errors="ignore")
        return validate(translate(frame, self.values, str(root)), str(root))

    def _read_collection(self, root: Path) -> pd.DataFrame:
        paths = sorted(path for path in root.glob(self.collection) if path.is_file())
        tables = []
        for path in paths if len(paths) == 1 else filter(_is_collection, paths):  # not the study's other tables
            table = read_table(path)
            found = {ours: next((name for name in names if name in table), None) for ours, names in COLUMNS.items()}
            for ours in NEEDED:
                if found[ours] is None:
                    raise missing_column(COLUMNS[ours][0], table.columns, str(path))
            tables.append(pd.DataFrame({ours: table[name] for ours, name in found.items() if name}))
        if not tables:
            raise InputError(
                f"dataset.collection={self.collection}: {root} holds no CSV of an IDA image collection (with a column "
                "Image Data ID); on ida.loni.usc.edu under Data Collections, the button CSV gives it"
            )
        frame = pd.concat(tables, ignore_index=True).dropna(subset=["image_id", "subject_id"])
        frame["image_id"] = frame["image_id"].str.replace(r"^\D+", "", regex=True)  # I45108; D45108 in HABS-HD's
        return frame.drop_duplicates("image_id").reset_index(drop=True)

    def _t1_weighted(self, frame: pd.DataFrame, root: Path) -> pd.DataFrame:
        t1, not_t1 = _compiled("t1", self.t1), _compiled("not_t1", self.not_t1)
        series = frame["description"].fillna("")
        wanted = series.map(lambda text: bool(t1.search(text)) and not not_t1.search(text)).astype(bool)
        if "modality" in frame:
            wanted &= frame["modality"].isna() | (frame["modality"].str.upper() == "MRI")
        if not wanted.any():
            have = ", ".join(series.unique()[:_NAMED])
            raise InputError(f"{root}: the collection has no T1-weighted series by dataset.t1={self.t1}; it has {have}")
        if "diagnosis" in frame:
            wanted &= ~frame["diagnosis"].isin(list(self.skip_groups))
        return frame[wanted]

    def _with_images(self, frame: pd.DataFrame, listed: set[str], root: Path) -> pd.DataFrame:
        """Find the files, by the ids in their paths."""
        by_id: dict[str, list[str]] = {}
        dicom = None
        for path in files(root):
            if path.lower().endswith((".dcm", ".ima")):
                dicom = dicom or path
            elif path.endswith((".nii", ".nii.gz")) and (ids := _IMAGE_ID.findall(path)):
                by_id.setdefault(ids[-1], []).append(path)
        several = [image for image in frame["image_id"] if len(by_id.get(image, [])) > 1]
        missing = [image for image in frame["image_id"] if image not in by_id]
        if len(missing) == len(frame) and dicom:
            raise InputError(
                f"{root} holds DICOM ({dicom}), and NIfTI is needed: choose NIfTI when downloading the collection, or "
                "convert each series in its folder: dcm2niix -z y -f %f FOLDER"
            )
        if len(missing) == len(frame):
            raise InputError(f"{root}: none of the {len(frame)} T1-weighted images of the collection is there as NIfTI")
        for images, what in (
            (missing, "of the collection are not there"),
            (several, "are there in several files, and are left out; keep one of each"),
            (sorted(set(by_id) - listed), "are not in the collection's CSV, and are left out"),
        ):
            if images:
                first = ", ".join(f"I{image}" for image in images[:_NAMED])
                warnings.warn(f"{root}: {len(images)} images {what}: {first}", stacklevel=3)
        frame = frame[~frame["image_id"].isin([*missing, *several])]
        if frame.empty:
            raise InputError(f"{root}: no T1-weighted image is left of the collection")
        return frame.assign(image_path=[str(root / by_id[image][0]) for image in frame["image_id"]])

    def _one_a_day(self, frame: pd.DataFrame) -> pd.DataFrame:
        preferred = [_compiled("prefer", pattern) for pattern in self.prefer]

        def rank(description: str) -> int:
            return next((i for i, pattern in enumerate(preferred) if pattern.search(description)), len(preferred))

        frame = frame.assign(
            rank=frame["description"].map(rank), number=pd.to_numeric(frame["image_id"], errors="coerce")
        )
        if "session_id" in frame:
            sessions = {code_text(theirs): ours for theirs, ours in (self.visits or {}).items()}
            frame["session_id"] = [sessions.get(code_text(visit), visit) for visit in frame["session_id"]]
        day = [name for name in ("subject_id", "session_id", "date") if name in frame]
        return frame.sort_values([*day, "rank", "number"]).drop_duplicates(day).reset_index(drop=True)

    def _with_groups_of_subject(self, frame: pd.DataFrame) -> pd.DataFrame:
        pattern = _compiled("subject_pattern", self.subject_pattern or "")
        matches = [pattern.fullmatch(subject) for subject in frame["subject_id"]]
        for name in pattern.groupindex:
            frame[name] = [match[name] if match else None for match in matches]
        return frame


def _is_collection(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.readline().decode(errors="replace")
    return any(name in header for name in COLUMNS["image_id"])


def _compiled(key: str, pattern: str) -> "re.Pattern[str]":
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise InputError(f"dataset.{key}={pattern!r}: not a regular expression: {error}") from error
