"""One interpolation from the scanner's grid to the template's, moved so that the brains' centres coincide.

The translation stands in for the paper's rigid registration: rotation is left as it was scanned. Antialiasing follows
Cardoso et al. 2015 (doi 10.1007/978-3-319-24571-3_81): a Gaussian that turns the input's point spread into the
output's.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from neuro_ssl.grid import Grid

# Centre of mass, RAS mm, of nilearn's `load_mni152_brain_mask(resolution=1)`: ICBM 152 2009a, the space of our grids.
TEMPLATE_CENTRE_MM = (0.0, -22.0, 9.55)


def resample_brain(
    voxels: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    grid: Grid,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Resample the voxels inside a mask onto a grid.

    Smoothing and interpolation are normalised by the mask, smoothed and interpolated alike: the brain's edge is an
    average of brain alone, neither darkened by the background nor brightened by fat. A voxel is brain where at least
    half of it is.

    Args:
        voxels: (x, y, z) in RAS orientation.
        mask: the brain, same shape.
        affine: from voxel indices to RAS mm. Its origin has no influence: the brain's centre takes that role.
        grid: where to.

    Returns:
        Intensities (0 outside the brain) and mask, both (z, y, x) of `grid.shape`.
    """
    centre_voxel = np.array(ndimage.center_of_mass(mask))
    to_mm = affine[:3, :3]
    spacing_mm = np.linalg.norm(to_mm, axis=0)
    # A voxel's blur has a full width at half maximum of its size; variances of Gaussians add.
    fwhm = np.sqrt(np.clip((grid.spacing_mm / spacing_mm) ** 2 - 1, 0, None))
    sigma = fwhm / np.sqrt(8 * np.log(2))

    margin = np.ceil(4 * sigma).astype(int) + 1  # scipy cuts its Gaussian at 4 sigma
    box = tuple(
        slice(max(0, extent.start - pad), extent.stop + pad)
        for extent, pad in zip(ndimage.find_objects(mask.astype(np.uint8))[0], margin, strict=True)
    )
    to_voxel = np.linalg.inv(to_mm)
    start_mm = np.array(grid.origin_mm) - TEMPLATE_CENTRE_MM
    offset = to_voxel @ start_mm + centre_voxel - [extent.start for extent in box]

    def to_grid(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if sigma.any():
            volume = ndimage.gaussian_filter(volume, sigma, mode="constant")
        resampled = ndimage.affine_transform(
            volume,
            to_voxel * grid.spacing_mm,
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
