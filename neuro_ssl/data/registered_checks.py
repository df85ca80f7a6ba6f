"""Checks of registered images before hours are spent on them: headers, masks, and one image under two names."""

import hashlib
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from neuro_ssl.data.checks import find_problems, listed
from neuro_ssl.data.volumes import canonical_grid
from neuro_ssl.errors import InputError
from neuro_ssl.grid import CROP_SHAPE_ZYX, CROP_START_ZYX, TEMPLATE_ORIGIN_MM
from neuro_ssl.preprocessing.nifti import read_nifti

TEMPLATE_SHAPE = (193, 229, 193)  # (x, y, z) of the 09c grid, 1 mm, RAS
TOLERANCE_MM = 0.01


def check_registered(scans: pd.DataFrame, table: Path, kept: Path) -> None:
    """Check all images by their headers, and all masks, before hours are spent on them.

    Args:
        scans: a manifest with `mask_path`.
        table: where they are listed, for the message.
        kept: where to keep what passed, for the next start.

    Raises:
        InputError: names the first bad files and the remedy.
    """
    masks = set(scans["mask_path"])

    def problem(file: str) -> str | None:
        try:
            image = nib.load(file)
            return _header_problem(image) or (_mask_problem(image) if file in masks else _image_problem(file, image))
        except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError) as error:
            return f"cannot be read, truncated or not NIfTI ({error})"
        except InputError as error:
            return str(error).removeprefix(f"{file}: ")

    files = [*scans["image_path"], *sorted(masks)]
    problems = find_problems(Path(), files, kept, problem, chunk=8)
    if problems:
        raise InputError(
            f"{table}: {len(problems)} of {len(files)} files cannot be used ({listed(problems)}); mend them or take "
            "their rows out; images that are not registered: python -m neuro_ssl.preprocess, and dataset=csv"
        )


def _header_problem(image: Any) -> str | None:
    if not isinstance(image, nib.Nifti1Pair):  # NIfTI-2 is a subclass
        return f"not a NIfTI image but {type(image).__name__}"
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        return "its header states no orientation (sform_code and qform_code are 0)"
    shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size != 1)
    if len(shape) != 3:
        return f"shape {image.shape} instead of a 3D image"
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-6:
        return "its affine is singular"
    canonical, affine = canonical_grid(shape, image.affine)
    expected = np.eye(4)
    expected[:3, 3] = TEMPLATE_ORIGIN_MM
    if canonical != TEMPLATE_SHAPE or not np.allclose(affine, expected, atol=TOLERANCE_MM):
        size = "×".join(map(str, canonical))
        spacing = "×".join(f"{step:g}" for step in np.linalg.norm(affine[:3, :3], axis=0).round(3))
        return (
            f"not on the ICBM 152 2009c grid: {size} voxels of {spacing} mm from {affine[:3, 3].round(2).tolist()} "
            f"instead of 193×229×193 of 1 mm from {list(TEMPLATE_ORIGIN_MM)}"
            f"{'' if np.allclose(affine[:3, :3], np.diag(np.diag(affine)[:3]), atol=TOLERANCE_MM) else ', and rotated'}"
        )
    return None


def _image_problem(file: str, image: Any) -> str | None:
    stored = image.dataobj
    n_bytes = stored.offset + stored.dtype.itemsize * int(np.prod(stored.shape))
    if file.endswith(".gz"):  # ends with the number of bytes that it holds
        has_all = int.from_bytes(_tail(file)[4:], "little") == n_bytes % 2**32
    else:
        has_all = Path(file).stat().st_size >= n_bytes
    if not has_all:  # truncated, or compressed in several pieces: reading tells
        read_nifti(file)
    return None


def _mask_problem(image: Any) -> str | None:
    image = nib.funcs.squeeze_image(image)  # type: ignore[no-untyped-call]
    voxels = np.asanyarray(image.dataobj)
    voxels = nib.apply_orientation(voxels, nib.io_orientation(image.affine))  # type: ignore[no-untyped-call]
    high = voxels.max()
    if not high > 0 or not np.logical_or(voxels == 0, voxels == high).all():
        return "a mask is 0 outside the brain and has one other value inside it"
    if not cropped(voxels).any():
        return "no brain voxel of this mask lies in the field of view"
    return None


def cropped(voxels_xyz: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The paper's field of view, (z, y, x)."""
    return voxels_xyz.transpose(2, 1, 0)[
        tuple(slice(start, start + size) for start, size in zip(CROP_START_ZYX, CROP_SHAPE_ZYX, strict=True))
    ]


def content_hashes(scans: pd.DataFrame, table: Path) -> list[str]:
    """What stands for the content of each scan's image and mask.

    Raises:
        InputError: one image under two names.
    """
    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(_content, scans["image_path"]))
        masks = list(threads.map(_content, scans["mask_path"]))
    repeated = pd.Series(images).duplicated(keep=False)
    if repeated.any():
        same = scans["image_path"][(pd.Series(images, index=scans.index) == pd.Series(images)[repeated].iloc[0])]
        raise InputError(f"{table}: {same.iloc[0]} and {same.iloc[1]} are the same image; keep one of the rows")
    return [hashlib.sha256(f"{image} {mask}".encode()).hexdigest() for image, mask in zip(images, masks, strict=True)]


def _content(file: str) -> str:
    """For a .gz its size and the checksum that it ends with, which is read in no time; else a hash of all of it."""
    if file.endswith(".gz"):
        return f"{Path(file).stat().st_size} {_tail(file).hex()}"
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tail(file: str) -> bytes:
    with Path(file).open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        return stream.read()
