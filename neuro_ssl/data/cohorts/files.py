"""A cohort whose file names say whose an image is, and whose tables say more: IXI, GSP, SALD."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.data.cohorts.tables import SubjectTable
from neuro_ssl.data.dataset import Dataset, translate
from neuro_ssl.data.manifest import validate
from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FileDataset(Dataset):
    r"""A folder of images that a table describes by subject rather than by file.

    Args:
        cohort: see `Dataset`, as root, grid and stores_dir.
        images: regular expression of an image's path relative to root, with `/`. Its named groups become columns:
            `(?P<subject_id>IXI\d{3})-(?P<site>Guys|HH|IOP)-\d{4}-T1\.nii\.gz`, where folders may come before. Groups
            with a leading underscore serve the tables alone.
        tables: name → a table of subjects or scans (see `SubjectTable`); a later one fills in what the former left out.
        values: the tables' codes → our words, by our column, such as `{"sex": {1: "M", 2: "F"}}`; None: missing.
    """

    images: str | None = None
    tables: Mapping[str, Mapping[str, Any]] | None = None
    values: Mapping[str, Mapping[Any, str | None]] | None = None

    @property
    def simulated(self) -> bool:
        """They are acquired scans."""
        return False

    def scans(self) -> pd.DataFrame:
        """Find the images and what the tables say of them.

        Raises:
            InputError: no image, an unreadable table, an unknown column, or a row against the manifest's schema.

        Warns:
            UserWarning: copies of an image, rows that contradict each other, images without a row.
        """
        root = self.root_dir
        tables = {name: SubjectTable.of(f"dataset.tables.{name}", table) for name, table in (self.tables or {}).items()}
        frame = self._find_images(root)
        for table in tables.values():
            frame = table.join(frame, root)
        frame = frame.drop(columns=[name for name in frame if str(name).startswith("_")]).assign(cohort=self.name)
        return validate(translate(frame, self.values, str(root)), str(root))

    def _find_images(self, root: Path) -> pd.DataFrame:
        if self.images is None:
            raise InputError("dataset.images: say by a regular expression which files are images, and whose")
        try:
            pattern = re.compile(rf"(?:.*/)?(?:{self.images})")
        except re.error as error:
            raise InputError(f"dataset.images={self.images!r}: not a regular expression: {error}") from error
        if "subject_id" not in pattern.groupindex:
            raise InputError(f"dataset.images={self.images!r}: it needs a group (?P<subject_id>…)")
        paths = list(files(root))
        found = [
            {**match.groupdict(), "image_path": str(root / path)}
            for path in paths
            if (match := pattern.fullmatch(path))
        ]
        if not found:
            images = [path for path in paths if path.endswith((".nii", ".nii.gz"))]
            has = f", which holds {images[0]}" if images else ", which holds no NIfTI"
            raise InputError(f"dataset.root={root}{has}: no path in it matches dataset.images={self.images}")
        frame = pd.DataFrame(found)
        # The same file in two archives, such as a subset that is published once more for itself.
        copies = frame["image_path"].map(lambda path: Path(path).name).duplicated()
        if copies.any():
            warnings.warn(
                f"{root}: {int(copies.sum())} images lie there twice under the same name and count once, such as "
                f"{frame['image_path'][copies].iloc[0]}",
                stacklevel=3,
            )
        return frame[~copies].reset_index(drop=True)


def files(root: Path) -> Iterator[str]:
    """All files below a folder, as paths relative to it, in order.

    Raises:
        InputError: a folder that may not be read.
    """
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        folders.sort()
        for name in sorted(names):
            yield (Path(folder) / name).relative_to(root).as_posix()


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}; get read access to it") from error
