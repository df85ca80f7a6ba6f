"""How much of an attribution map lies in which region, beside how much of the brain the region is.

A map that ignores the region gives it the share of attribution that it has of the brain: enrichment 1. More is no proof
that anything was learnt there: attribution follows the input's contrast, so that dark ventricles get much of it from
untrained networks, too. Compare with those.
"""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score, bootstrap_intervals, subjects_of
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.resampling import resample_brain

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.floating]
COLUMNS = ["volume", "attribution", "signed"]


def attribution_by_region(attribution: Map, brain: Mask, regions: Mapping[str, Mask]) -> pd.DataFrame:
    """What each region holds of one scan's attribution.

    Args:
        attribution: (z, y, x).
        brain: the same shape; what lies outside doesn't count.
        regions: by name, the same shape; they may overlap.

    Returns:
        By region, shares of the brain: `volume`, `attribution` (of absolute values), and `signed` (their balance as a
        share of all absolute values, positive where the region raises the output on the whole).

    Raises:
        ValueError: shapes differ, or the map is 0 throughout the brain, so that there is nothing to share out.
    """
    for name, mask in {"brain": brain, **regions}.items():
        if mask.shape != attribution.shape:
            raise ValueError(f"{name} has shape {mask.shape}, the attribution map {attribution.shape}")
    inside = np.asarray(attribution, np.float64)[brain]
    absolute = np.abs(inside)
    total = absolute.sum()
    if not total > 0:
        raise ValueError("the attribution map is 0 or nan in the brain: there is nothing to share out")
    rows = {
        name: (mask[brain].mean(), absolute[mask[brain]].sum() / total, inside[mask[brain]].sum() / total)
        for name, mask in regions.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("region")


def enrichment(scans: pd.DataFrame, *, seed: int = 0) -> dict[str, Score]:
    """Attribution share over volume share of each region, over scans, with a 95 % interval over subjects.

    The means of both shares are divided, not each scan's by each: in small regions a quotient may be anything.

    Args:
        scans: `subject_id`, `region`, and the columns of `attribution_by_region`; one row a scan and region.
        seed: of the bootstrap.

    Returns:
        By region; 1 is what a map that ignores it has. Without an interval where there are too few subjects, see
        `evaluation.bootstrap`.
    """
    found = {}
    for region, rows in scans.groupby("region", sort=False):
        share, volume = rows["attribution"].to_numpy(np.float64), rows["volume"].to_numpy(np.float64)

        def ratio(
            weight: npt.NDArray[np.float64],
            share: npt.NDArray[np.float64] = share,
            volume: npt.NDArray[np.float64] = volume,
        ) -> npt.NDArray[np.float64]:
            return np.asarray((weight @ share) / (weight @ volume))

        subjects = subjects_of(rows, "regression")
        found[str(region)] = bootstrap_intervals({"": ratio}, subjects, seed=seed)[""]
    return found


def region_on_grid(image: nib.Nifti1Image, grid: Grid, to_scan: npt.NDArray[np.float64] | None = None) -> Mask:
    """A mask on the grid of a store's volumes: what is at least half within it.

    Args:
        image: the mask, inside > 0.
        grid: of the store.
        to_scan: 4×4 matrix from MNI mm to the image's, of a scan that the mask was drawn on; None: it is in MNI space.

    Returns:
        (z, y, x) of `grid.shape`.
    """
    canonical = nib.as_closest_canonical(image)  # type: ignore[no-untyped-call]
    mask = np.asarray(canonical.dataobj) > 0
    if not mask.any():
        return np.zeros(grid.shape, bool)
    return resample_brain(
        mask.astype(np.float32), mask, canonical.affine, np.eye(4) if to_scan is None else to_scan, grid
    )[1]


def read_atlas(path: str | Path, grid: Grid) -> dict[str, Mask]:
    """The regions of a label image in MNI space, on the grid of a store's volumes.

    Args:
        path: NIfTI file of whole numbers; 0 is no region.
        grid: of the store.

    Returns:
        By label, masks (z, y, x) of `grid.shape`, by the nearest voxel; labels that have none are left out.

    Raises:
        InputError: no such image, other values than whole numbers, or none of its regions on this grid.
    """
    labels, affine = read_nifti(path)
    if not np.array_equal(labels, labels.round()):
        raise InputError(f"{path}: a label image has whole numbers, this one others too, such as {_fraction(labels):g}")
    to_voxel = np.linalg.inv(affine) @ grid.affine
    on_grid = ndimage.affine_transform(
        labels, to_voxel[:3, :3], to_voxel[:3, 3], output_shape=grid.shape[::-1], order=0, mode="grid-constant"
    ).transpose(2, 1, 0)
    found = {f"{label:g}": on_grid == label for label in np.unique(on_grid) if label != 0}
    if not found:
        raise InputError(f"{path}: none of its regions lies on grid {grid.name}; it must be in MNI space")
    return found


def _fraction(labels: npt.NDArray[np.float32]) -> float:
    return float(labels[labels != labels.round()][0])
