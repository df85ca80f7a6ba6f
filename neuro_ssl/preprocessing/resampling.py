"""One interpolation from the scanner's grid to the template's.

Antialiasing follows Cardoso et al. 2015 (doi 10.1007/978-3-319-24571-3_81): a Gaussian that turns the input's point
spread into the output's.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from neuro_ssl.grid import Grid


def resample_brain(
    voxels: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    to_scan: npt.NDArray[np.float64],
    grid: Grid,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Resample the voxels inside a mask onto a grid.

    Smoothing and interpolation are normalised by the mask, smoothed and interpolated alike: the brain's edge is an
    average of brain alone, neither darkened by the background nor brightened by fat. A voxel is brain where at least
    half of it is.

    Args:
        voxels: (x, y, z) in RAS orientation.
        mask: the brain, same shape.
        affine: from voxel indices to RAS mm.
        to_scan: 4×4 matrix from the grid's mm to the affine's.
        grid: where to.

    Returns:
        Intensities (0 outside the brain) and mask, both (z, y, x) of `grid.shape`.
    """
    to_voxel = np.linalg.inv(affine) @ to_scan @ grid.affine  # from indices of the grid, (x, y, z)
    steps = np.linalg.norm(to_voxel[:3, :3], axis=1)  # of the grid along each of the image's axes, in voxels
    # A voxel's blur has a full width at half maximum of its size; variances of Gaussians add.
    fwhm = np.sqrt(np.clip(steps**2 - 1, 0, None))
    sigma = fwhm / np.sqrt(8 * np.log(2))

    margin = np.ceil(4 * sigma).astype(int) + 1  # scipy cuts its Gaussian at 4 sigma
    box = tuple(
        slice(max(0, extent.start - pad), extent.stop + pad)
        for extent, pad in zip(ndimage.find_objects(mask.astype(np.uint8))[0], margin, strict=True)
    )
    offset = to_voxel[:3, 3] - [extent.start for extent in box]

    def to_grid(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if sigma.max() > 1e-3:
            volume = ndimage.gaussian_filter(volume, sigma, mode="constant")
        resampled = ndimage.affine_transform(
            volume,
            to_voxel[:3, :3],
            offset,
            output_shape=grid.shape[::-1],
            order=1,
            mode="grid-constant",
        )
        return np.ascontiguousarray(resampled.transpose(2, 1, 0))

    coverage = to_grid(mask[box].astype(np.float32))
    inside = coverage >= 0.5
    intensity = np.zeros_like(coverage)
    np.divide(to_grid(np.where(mask[box], voxels[box], np.float32(0))), coverage, out=intensity, where=inside)
    return intensity, inside
