"""What every cohort has in common: a name, the folder of its stores, and the scans it consists of."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.data.checks import check_volumes
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A cohort.

    Args:
        cohort: a short name, within which subject ids are unique; by default that of the root folder.
        root: folder of the images. Only preprocessing needs it.
        grid: the voxel grid that training reads the cohort on.
        stores_dir: folder that holds one folder of volume stores a cohort.
        transform: a TorchIO or MONAI transform of each training volume as it is loaded (see `ScanTransform`), or None.
    """

    cohort: str | None = None
    root: str | None = None
    grid: str = "paper_1mm"
    stores_dir: str = "data/stores"
    transform: Any = None

    @property
    def name(self) -> str:
        """The cohort's name.

        Raises:
            InputError: neither cohort nor root is given, or the name cannot be that of a folder.
        """
        name = self.cohort or (Path(self.root).resolve().name if self.root else None)
        if name is None:
            raise InputError("dataset.cohort: give the cohort's name, or dataset.root, the folder of its images")
        if not re.fullmatch(r"[\w-][\w.-]*", name):
            raise InputError(f"dataset.cohort={name!r}: letters, digits, '.', '_' and '-' make a cohort's name")
        return name

    @property
    def store_dir(self) -> Path:
        """The folder of this cohort's volume stores."""
        return Path(self.stores_dir) / self.name

    @property
    def root_dir(self) -> Path:
        """The folder of the images, absolute.

        Raises:
            InputError: not given, or not there.
        """
        if self.root is None:
            raise InputError("dataset.root: the folder of the images is needed")
        if not Path(self.root).is_dir():
            raise InputError(f"dataset.root={self.root}: no such folder")
        return Path(self.root).resolve()

    @property
    @abstractmethod
    def simulated(self) -> bool:
        """Whether the scans were made by `neuro_ssl.simulate`."""

    def open(self, grid: str) -> Volumes:
        """What training reads, checked: here the volume store on a grid.

        Raises:
            InputError: no store, several, or one that is damaged.
        """
        store = VolumeStore.find(self.store_dir, grid)
        check_volumes(store)
        return store

    @abstractmethod
    def scans(self) -> pd.DataFrame:
        """The validated manifest, one row a scan, with absolute paths."""


def translate(frame: pd.DataFrame, values: Mapping[str, Mapping[Any, str | None]] | None, source: str) -> pd.DataFrame:
    """Replace a cohort's codes by our words.

    Args:
        frame: columns under our names.
        values: code → word for each column, such as `{"sex": {1: "M", 2: "F"}}`; other values stay, and so does
            everything with None. A code whose word is None means that the value is missing.
        source: where the frame came from, for messages.

    Raises:
        InputError: a column that is not there.
    """
    frame = frame.copy()
    for name, words in (values or {}).items():
        if name not in frame:
            raise InputError(f"dataset.values.{name}: {source} gives no column {name}; see dataset.columns")
        by_code = {code_text(code): word for code, word in words.items()}
        frame[name] = [by_code.get(code_text(value), value) for value in frame[name]]
    return frame


def code_text(value: object) -> str:
    """The same text for 1, 1.0, "1" and "1.0": a column with gaps is stored as decimals."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(value))
