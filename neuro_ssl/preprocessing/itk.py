"""Between arrays in RAS orientation and SimpleITK's images, whose world is LPS."""

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse


def to_itk(voxels: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> sitk.Image:
    """An image of SimpleITK, at the same place of the same head.

    Args:
        voxels: (x, y, z).
        affine: 4×4, from voxel indices to RAS mm. ITK knows no shears: what an affine has of them is dropped.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((RAS_TO_LPS @ affine[:, 3])[:3].tolist())
    image.SetDirection((RAS_TO_LPS[:3, :3] @ (left @ right)).ravel().tolist())
    return image


def from_itk(image: sitk.Image) -> npt.NDArray[np.float32]:
    """The voxels of an image, (x, y, z)."""
    voxels: npt.NDArray[np.float32] = sitk.GetArrayFromImage(image).T.astype(np.float32)
    return voxels
