"""NIfTI images, read and checked, in the orientation closest to RAS.

Orientation comes from the header's affine alone: nibabel flips and permutes array and affine together, so that
left stays left however the axes are stored.
"""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from neuro_ssl.errors import InputError


def read_nifti(path: str | Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Read a 3D image.

    Args:
        path: a `.nii` or `.nii.gz` file; a fourth axis of length 1 is dropped.

    Returns:
        The voxels, (x, y, z), each axis increasing towards R, A, S as nearly as the axes allow; and the 4×4 matrix
        from voxel indices to RAS mm.

    Raises:
        InputError: missing, empty, truncated or not NIfTI; not 3D; NaN or infinite voxels; one value throughout;
            a header without orientation or with a singular affine.
    """
    try:
        with Path(path).open("rb"):  # nibabel does not tell why a file cannot be opened
            pass
        stored = nib.load(path)
        if not isinstance(stored, nib.Nifti1Pair):  # NIfTI-2 is a subclass
            raise InputError(f"{path}: not a NIfTI image but {type(stored).__name__}; convert it to .nii.gz")
        image = nib.funcs.squeeze_image(stored)  # type: ignore[no-untyped-call]
        if len(image.shape) != 3 or min(image.shape) < 2:
            raise InputError(f"{path}: a 3D image is needed, this one has shape {stored.shape}; extract one volume")
        if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
            raise InputError(
                f"{path}: its header states no orientation (sform_code and qform_code are 0), so that left and right "
                "are unknown; set the affine, for example with nibabel's image.set_sform(affine, code=1)"
            )
        affine = image.affine
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
            raise InputError(
                f"{path}: the affine in its header is singular ({affine.tolist()}); set the right one, for example "
                "with nibabel's image.set_sform(affine, code=1)"
            )
        image = nib.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        voxels = image.get_fdata(dtype=np.float32)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path, or leave the scan out") from error
    except PermissionError as error:
        raise InputError(f"{path}: {error.strerror}; get read access to it") from error
    except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise InputError(f"{path}: cannot be read, truncated or not NIfTI ({error}); fetch it again") from error
    if not np.isfinite(voxels).all():
        raise InputError(
            f"{path}: {np.sum(~np.isfinite(voxels))} voxels are NaN or infinite; export it again, or leave the scan out"
        )
    if voxels.min() == voxels.max():
        raise InputError(f"{path}: every voxel is {voxels.flat[0]:g}; export it again, or leave the scan out")
    return voxels, image.affine
