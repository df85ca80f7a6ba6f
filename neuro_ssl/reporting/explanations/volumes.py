"""Volumes as the page's viewer takes them: NIfTI files of 8 bits a voxel, as text."""

import base64
import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neuro_ssl.errors import InputError
from neuro_ssl.explaining.display import EDGE, display

FINEST_MM = 2.0  # finer, and a page would be eight times as large for what the eye hardly sees
STRONGEST = (0.5, 1, 2, 5, 10, 20, 50, 100)  # per cent of the brain's voxels that a reader may choose to see
LEVELS = 127  # of an int8, on either side of 0
Array = npt.NDArray[Any]


def viewer_volumes(folder: Path) -> tuple[dict[str, Any], str]:
    """A mean map, shown as its picture shows it, and the brain below it.

    Args:
        folder: has `mean.nii.gz` and `background.nii.gz`, one grid.

    Returns:
        What `templates/viewer.js` needs of the map: `data`, base64 of a gzipped NIfTI file, int8; `limit`, the value
        that 127 stands for, a percentile of the absolute map in the brain, so that no single voxel pales all others;
        `thresholds`, pairs of per cent of the brain's voxels and the level that as many reach; `peak_mm`, where in the
        brain the largest absolute value is (RAS). And the background, base64 of a gzipped NIfTI file, uint8, 0 outside
        the brain and nowhere else.

    Raises:
        InputError: a file is missing or unreadable, or the two don't match.
    """
    values, affine = _read(folder / "mean.nii.gz")
    scan, scan_affine = _read(folder / "background.nii.gz")
    if values.shape != scan.shape or not np.allclose(affine, scan_affine) or not scan.max() > EDGE:
        raise InputError(f"{folder}: background.nii.gz is not of the grid of mean.nii.gz, or empty; explain again")
    shown = display(values, scan, affine)
    (values, affine), (scan, _) = coarser(shown.attribution, shown.affine), coarser(shown.brain, shown.affine)
    magnitude, inside = np.abs(values), coarser(shown.inside, shown.affine)[0] >= 0.5
    levels = np.rint(np.clip(values / shown.limit, -1, 1) * LEVELS)
    # Where most voxels are 0, as in Grad-CAM, so is a threshold, and everything would be shown.
    least = np.percentile(magnitude[inside], [100 - share for share in STRONGEST]) / shown.limit * LEVELS
    least = np.clip(least, 1, LEVELS)
    peak = np.unravel_index(np.argmax(np.where(inside, magnitude, -1)), magnitude.shape)
    attribution = {
        "data": _encoded(levels.astype(np.int8), affine),
        "limit": shown.limit,
        "thresholds": [[share, round(float(level), 2)] for share, level in zip(STRONGEST, least, strict=True)],
        "peak_mm": (affine[:3, :3] @ peak + affine[:3, 3]).tolist(),
    }
    grey = np.clip(np.rint(255 * scan / np.percentile(scan[inside], 99.5)), 1, 255) * inside
    return attribution, _encoded(grey.astype(np.uint8), affine)


def coarser(values: Array, affine: Array) -> tuple[Array, Array]:
    """Means of cubes of voxels that are about `FINEST_MM` wide; volumes that are no finer stay as they are.

    Args:
        values: (x, y, z).
        affine: 4×4, from voxel indices to mm.

    Returns:
        Values and affine of the coarser grid. At the far ends the last voxel is repeated to fill a cube.
    """
    edge = max(1, round(FINEST_MM / float(np.linalg.norm(affine[:3, 0]))))
    padded = np.pad(values, [(0, -size % edge) for size in values.shape], mode="edge")
    x, y, z = (size // edge for size in padded.shape)
    place = np.diag([edge, edge, edge, 1.0])
    place[:3, 3] = (edge - 1) / 2  # voxel 0 has its centre between the voxels that it is the mean of
    return padded.reshape(x, edge, y, edge, z, edge).mean(axis=(1, 3, 5)), affine @ place


def _read(file: Path) -> tuple[Array, Array]:
    try:
        image: Any = nib.load(file)
        values: Array = image.get_fdata(dtype=np.float32)
    except (OSError, EOFError, zlib.error, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{file}: unreadable ({error}); explain again, or delete its folder") from error
    if values.ndim != 3 or not np.isfinite(values).all():
        raise InputError(f"{file}: not a volume of finite numbers; explain again, or delete its folder")
    return values, image.affine


def _encoded(values: Array, affine: Array) -> str:
    image = nib.Nifti1Image(values, affine)  # type: ignore[no-untyped-call]
    return base64.b64encode(gzip.compress(image.to_bytes(), mtime=0)).decode()
