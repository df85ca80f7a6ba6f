"""The volume store that training reads: one blosc2 array a scan, a manifest, and what they are.

    stores/<cohort>/<grid>-<hash of the preprocessing>/
        store.json           format, cohort, grid, preprocessing, hashes
        manifest.parquet     one row a scan
        measurements.parquet for quality control
        failures.csv         scans that preprocessing could not use, and why; absent where there are none
        volumes/<scan_id>.b2nd
    stores/<cohort>/exclude.csv    scans to leave out (see `exclusions`)

Volumes are float16, (z, y, x), ≥ 0: brain > 0 with white matter near 1, everything else exactly 0. Rounding to float16
changes a voxel by at most 1 part in 2048, far below the noise of any scan (`experiments/preprocessing/store.py`
measures it). blosc2 finds a truncated file, but not a flipped bit: the manifest holds a hash of each volume's voxels,
which `python -m neuro_ssl.store verify` compares.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.data.exclusions import read_exclusions, refuse_unknown
from neuro_ssl.data.manifest import SPLITS, read_manifest
from neuro_ssl.data.tabular import read_table
from neuro_ssl.data.volumes import summary_of
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid

FORMAT_VERSION = 2  # 2: volume_hash
INFO = ("cohort", "simulated", "grid", "preprocessing", "preprocessing_hash", "manifest_hash")  # of store.json
_LOCAL = ["image_path", "mask_path"]  # say where the data are, not what


@dataclass(frozen=True, eq=False)
class VolumeStore:
    """An open store, read only; it may be pickled into loading processes.

    Attributes:
        path: its folder.
        info: what `store.json` says; its `manifest_hash` is that of `manifest`, without the excluded scans.
        manifest: one row a scan, with `scan_id`, `volume`, `volume_hash`, `image_hash`, `brain_ml` and `split`.
        excluded: scan_id → reason, of the scans that are left out of the manifest.
    """

    path: Path
    info: Mapping[str, Any]
    manifest: pd.DataFrame
    excluded: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path, *, with_excluded: bool = False) -> "VolumeStore":
        """Open a store and check its description and manifest. (`checks.check_volumes` looks at the volumes.)

        Args:
            path: its folder.
            with_excluded: keep the scans that the cohort's `exclude.csv` lists.

        Raises:
            InputError: no finished store, of another format, or its description or manifest are damaged or changed;
                or `exclude.csv` is wrong, or leaves nothing.
        """
        path = Path(path)
        try:
            info, manifest = cls._read(path)
        except InputError:  # a store that is being written again is at odds with itself for a moment
            time.sleep(0.2)
            info, manifest = cls._read(path)
        exclusions = {} if with_excluded else read_exclusions(path.parent)
        if not exclusions:
            return cls(path, info, manifest)
        refuse_unknown(path.parent, exclusions, manifest["scan_id"].tolist())
        out = manifest["scan_id"].isin(list(exclusions))
        if out.all():
            raise InputError(f"{path.parent}/exclude.csv leaves none of the {len(manifest)} scans of {path}")
        excluded = {scan_id: exclusions[scan_id] for scan_id in manifest["scan_id"][out]}
        if excluded:
            manifest = manifest[~out].reset_index(drop=True)
            info = {**info, "manifest_hash": manifest_hash(manifest)}
        return cls(path, info, manifest, excluded)

    @classmethod
    def _read(cls, path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
        """Description and whole manifest."""
        again = "run the preprocess command again: it makes what is missing"
        try:
            info = json.loads((path / "store.json").read_text(encoding="utf-8"))
            version = info["format_version"]
        except FileNotFoundError as error:
            raise InputError(f"{path}: no finished volume store; {again}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}/store.json: damaged ({error!r}); {again}") from error
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: format {version}, and this version of neuro_ssl reads {FORMAT_VERSION}; "
                "delete the folder and preprocess again"
            )
        if lacking := [key for key in INFO if key not in info]:
            raise InputError(f"{path}/store.json: damaged, it lacks {', '.join(lacking)}; {again}")
        try:
            manifest = read_manifest(path / "manifest.parquet")
        except InputError as error:
            raise InputError(f"{error}; {again}") from error
        if manifest_hash(manifest) != info["manifest_hash"]:
            raise InputError(f"{path}/manifest.parquet was changed since it was written; {again}")
        return info, manifest

    @classmethod
    def find(cls, store_dir: str | Path, grid: str) -> "VolumeStore":
        """Open the one store of a grid among a cohort's stores.

        Args:
            store_dir: the cohort's folder of stores.
            grid: name of a grid, or, to choose among several stores of it, of a store's folder.

        Raises:
            InputError: there is none, or there are several.
        """
        store_dir = Path(store_dir)
        finished = sorted(file.parent for file in store_dir.glob("*/store.json"))
        found = [path for path in finished if grid in (path.name, path.name.rpartition("-")[0])]
        if len(found) == 1:
            return cls.open(found[0])
        if found:
            names = ", ".join(path.name for path in found)
            raise InputError(f"{store_dir} holds {len(found)} stores of grid {grid}: choose one by grid=, of {names}")
        have = f"there are {', '.join(path.name for path in finished)}" if finished else "there is none yet"
        raise InputError(
            f"no volume store of cohort {store_dir.name} on grid {grid} in {store_dir}, {have}; make it by "
            f"python -m neuro_ssl.preprocess grid={grid}, with the dataset=… and dataset.… options of this cohort"
        )

    @property
    def grid(self) -> Grid:
        """The grid that all volumes are on."""
        grid = self.info["grid"]
        return Grid(grid["name"], tuple(grid["shape"]), grid["spacing_mm"], tuple(grid["origin_mm"]))

    @property
    def cohort(self) -> str:
        """Name of the cohort."""
        return str(self.info["cohort"])

    @property
    def simulated(self) -> bool:
        """Whether the scans were made by `neuro_ssl.simulate`."""
        return bool(self.info["simulated"])

    @property
    def identity(self) -> dict[str, str]:
        """What tells this store's content from any other's, wherever it lies."""
        return {key: self.info[key] for key in ("cohort", "preprocessing_hash", "manifest_hash")}

    @property
    def summary(self) -> dict[str, Any]:
        """What a run records of its data."""
        return {**summary_of(self, self.info["preprocessing"]), "n_excluded": len(self.excluded)}

    def __str__(self) -> str:
        counts = self.summary
        megabytes = sum((self.path / volume).stat().st_size for volume in self.manifest["volume"]) / 1e6
        splits = ", ".join(f"{split} {n}" for split in SPLITS if (n := counts["n_subjects"].get(split)))
        out = f"; {len(self.excluded)} more are left out by exclude.csv" if self.excluded else ""
        return (
            f"cohort {self.cohort}{' (simulated)' if self.simulated else ''}: {len(self.manifest)} scans of "
            f"{sum(counts['n_subjects'].values())} subjects ({splits}){out}\n"
            f"store: {self.path}, {'×'.join(map(str, self.grid.shape))} voxels, {megabytes:.1f} MB"
        )

    def read(self, volume: str) -> npt.NDArray[np.float16]:
        """Decode one volume.

        Args:
            volume: as in the manifest's column of that name.

        Returns:
            (z, y, x) of `grid.shape`.

        Raises:
            InputError: the file is damaged, or cannot be read.
        """
        file = self.path / volume
        try:
            array: npt.NDArray[np.float16] = open_volume(file)[...]
        except RuntimeError as error:  # a header that is whole, and content that is not
            raise InputError(_problem(file, error)) from error
        return array


def open_volume(file: Path) -> Any:
    """The blosc2 array in a file, still compressed; its metadata are `schunk.vlmeta["neuro_ssl"]`.

    Raises:
        InputError: not such a file, a damaged one, or none that can be read.
    """
    try:  # one thread: the loading processes are the parallelism, and threads do not survive a fork
        return blosc2.open(str(file), mode="r", dparams=blosc2.DParams(nthreads=1))
    except (RuntimeError, OSError) as error:
        raise InputError(_problem(file, error)) from error


def volume_bytes(file: Path) -> bytes:
    """What a volume's file holds, compressed.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(_unreadable(file, error)) from error


def decode_volume(content: bytes, file: Path) -> npt.NDArray[np.float16]:
    """Decode a volume's file that was read into memory.

    Args:
        content: of the file.
        file: its name, for the error.

    Raises:
        InputError: damaged.
    """
    try:
        volume = blosc2.ndarray_from_cframe(content)
        volume.schunk.dparams = blosc2.DParams(nthreads=1)
        array: npt.NDArray[np.float16] = volume[...]
    except RuntimeError as error:
        raise InputError(_damaged(file, error)) from error
    return array


def read_failures(store: str | Path) -> pd.DataFrame:
    """The scans that preprocessing could not use, with `scan_id`, `image_path` and `reason`; empty if there are none.

    Args:
        store: a store's folder, finished or not.
    """
    file = Path(store) / "failures.csv"
    return (
        read_table(file) if file.is_file() else pd.DataFrame(columns=["scan_id", "image_path", "reason"], dtype="str")
    )


def volume_hash(volume: npt.NDArray[np.float16]) -> str:
    """Hash of the voxels, whatever the compression: 8 ms for 150×192×192."""
    return hashlib.sha256(np.ascontiguousarray(volume).data).hexdigest()[:16]


def _problem(file: Path, error: Exception) -> str:
    """Damaged, or not to be read, of which blosc2 does not always tell."""
    try:
        with file.open("rb") as stream:
            while stream.read(2**20):
                pass
    except OSError as refused:
        return _unreadable(file, refused)
    return _damaged(file, error)


def _unreadable(file: Path, error: OSError) -> str:
    return (
        f"{file}: cannot be read ({error.strerror}); see that its disk or network folder is there, or make it again by "
        "the preprocess command; then give the same command again"
    )


def _damaged(file: Path, error: Exception) -> str:
    return f"{file}: damaged ({error}); delete it and run the preprocess command again"


def manifest_hash(manifest: pd.DataFrame) -> str:
    """Hash of the content, without paths: the same data in another place are the same data."""
    content = manifest.drop(columns=_LOCAL, errors="ignore").sort_index(axis=1)
    return hashlib.sha256(content.to_csv(index=False).encode()).hexdigest()[:16]
