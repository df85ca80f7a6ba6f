"""What training reads volumes from: a store, or registered images as they are; and what every volume promises.

A volume is (z, y, x), brain > 0, everything else exactly 0, so that the brain is where it is > 0.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.data.demographics import demographics
from neuro_ssl.grid import Grid

DARKEST_BRAIN = 1e-4  # what a brain's darkest voxel is lifted to; white matter is near 1


class Volumes(Protocol):
    """A cohort's volumes, all on one grid; may be pickled into loading processes."""

    @property
    def path(self) -> Path:
        """Where they come from, for messages."""

    @property
    def manifest(self) -> pd.DataFrame:
        """One row a scan, indexed from 0, with `scan_id`, `subject_id`, `volume` and `split`."""

    @property
    def grid(self) -> Grid:
        """The grid that all volumes are on."""

    @property
    def cohort(self) -> str:
        """Name of the cohort."""

    @property
    def simulated(self) -> bool:
        """Whether the scans were made by `neuro_ssl.simulate`."""

    @property
    def identity(self) -> dict[str, str]:
        """What tells this content from any other's, wherever it lies."""

    @property
    def summary(self) -> dict[str, Any]:
        """What a run records of its data."""

    def read(self, volume: str) -> npt.NDArray[Any]:
        """The volume of that name in the manifest, (z, y, x) of `grid.shape`."""


def summary_of(volumes: Volumes, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """`Volumes.summary` of any volumes.

    Args:
        volumes: what is summed up.
        preprocessing: the settings that made them.
    """
    subjects = volumes.manifest.groupby("split")["subject_id"]
    return {
        **volumes.identity,
        "split_hash": split_hash(volumes.manifest),
        "simulated": volumes.simulated,
        "grid": volumes.grid.name,
        "preprocessing": dict(preprocessing),
        "store": str(volumes.path),
        "n_scans": subjects.size().to_dict(),
        "n_subjects": subjects.nunique().to_dict(),
        "demographics": demographics(volumes.manifest),
    }


def split_hash(manifest: pd.DataFrame) -> str:
    """Hash of who is in which split: equal for two stores of one cohort whose subjects are divided in the same way."""
    splits = manifest[["subject_id", "split"]].drop_duplicates().sort_values(["subject_id", "split"])
    return hashlib.sha256(splits.to_csv(index=False).encode()).hexdigest()[:16]


def lifted(brain: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The brain's voxels, shifted together so that the darkest is > 0, where they are not already.

    A shift changes nothing in what an encoder sees: the z-score over the brain that ends every view removes it.
    """
    darkest = brain.min()
    return brain if darkest >= DARKEST_BRAIN else brain - darkest + DARKEST_BRAIN


def canonical_grid(
    shape: tuple[int, ...], affine: npt.NDArray[np.float64]
) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Shape and affine of a 3D image once its axes run as nearly as they can to the right, anterior, superior.

    Args:
        shape: as stored.
        affine: from stored voxel indices to RAS mm, not singular.
    """
    orientation = nib.io_orientation(affine)  # type: ignore[no-untyped-call]
    turned = affine @ nib.orientations.inv_ornt_aff(orientation, shape)  # type: ignore[no-untyped-call]
    return tuple(shape[list(orientation[:, 0]).index(axis)] for axis in range(3)), turned
