"""Attributions as NIfTI images: in MNI space on the store's grid, and on the voxels of the scan that they explain.

An attribution is a density over the encoder's voxels. On the scan's own grid it is interpolated linearly and not
scaled, so that a place has the same value on both; sums over voxels agree only if the voxels are of one size.
"""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.processing import resample_from_to
from nibabel.spatialimages import HeaderDataError

from neuro_ssl.data.store import VolumeStore, open_volume
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.grid import Grid

MNI = 4  # NIfTI's code for MNI 152 coordinates


def write_mni(volume: npt.NDArray[np.floating], grid: Grid, file: Path, description: str) -> None:
    """Write a volume of a grid in MNI space.

    Args:
        volume: (z, y, x) of the grid's shape.
        grid: where it is.
        file: ends in `.nii.gz`.
        description: at most 79 characters of it are kept in the header.

    Raises:
        InputError: the file cannot be written.
    """
    image = _image(volume, grid.affine, description)
    image.set_sform(grid.affine, code=MNI)  # type: ignore[no-untyped-call]
    image.set_qform(grid.affine, code=MNI)  # type: ignore[no-untyped-call]
    _write(image, file)


def write_native(
    volume: npt.NDArray[np.floating],
    grid: Grid,
    to_scan: npt.NDArray[np.float64],
    scan: Path,
    file: Path,
    description: str,
) -> None:
    """Write a volume of a grid in MNI space on the voxels of a scan, 0 outside of the grid.

    Args:
        volume: (z, y, x) of the grid's shape.
        grid: where it is.
        to_scan: 4×4 matrix from MNI mm to the scan's own mm, both RAS.
        scan: the image as acquired, whose voxels, axes and orientation are kept.
        file: ends in `.nii.gz`.
        description: as for `write_mni`.

    Raises:
        InputError: the scan cannot be read, or the file not be written.
    """
    try:
        acquired = nib.load(scan)
        target = (acquired.shape[:3], acquired.affine)  # type: ignore[attr-defined]
        forms = [acquired.get_sform(coded=True), acquired.get_qform(coded=True)]  # type: ignore[attr-defined]
    except (
        OSError,
        EOFError,
        zlib.error,
        AttributeError,
        nib.filebasedimages.ImageFileError,
        HeaderDataError,
    ) as error:
        raise InputError(f"{scan} cannot be read ({error}): bring it back, or set native=false") from error
    in_scan = _image(volume, to_scan @ grid.affine, description)
    image = resample_from_to(in_scan, target, order=1)  # type: ignore[no-untyped-call]
    image = nib.Nifti1Image(image.get_fdata(dtype=np.float32), target[1], image.header)  # type: ignore[no-untyped-call]
    image.set_sform(*forms[0])  # type: ignore[no-untyped-call]
    image.set_qform(*forms[1])  # type: ignore[no-untyped-call]
    _write(image, file)


def read_mni(file: Path) -> npt.NDArray[np.float32]:
    """What `write_mni` wrote, (z, y, x).

    Raises:
        InputError: damaged.
    """
    try:
        voxels: npt.NDArray[np.float32] = nib.load(file).get_fdata(dtype=np.float32)  # type: ignore[attr-defined]
    except (OSError, EOFError, zlib.error, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{file} is damaged ({error}): delete it and give the command again") from error
    return voxels.transpose(2, 1, 0)


def to_scan_of(volumes: Volumes, volume: str) -> npt.NDArray[np.float64]:
    """4×4 matrix from MNI mm to a scan's own mm; of images that are read as they are registered, the identity.

    Args:
        volumes: of a cohort.
        volume: as in the manifest's column of that name.
    """
    if not isinstance(volumes, VolumeStore):
        return np.eye(4)
    array = open_volume(volumes.path / volume)  # its metadata live as long as it does
    return np.asarray(array.schunk.vlmeta["neuro_ssl"]["to_scan"], dtype=np.float64)


def _image(volume: npt.NDArray[np.floating], affine: npt.NDArray[np.float64], description: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.ascontiguousarray(volume.astype(np.float32).transpose(2, 1, 0)), affine)  # type: ignore[no-untyped-call]
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    return image


def _write(image: nib.Nifti1Image, file: Path) -> None:
    with appearing(file) as temporary:
        nib.save(image, temporary)
