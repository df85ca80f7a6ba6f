"""How a mean map is shown: one way for its picture (`figure`) and for the viewer of a report."""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.processing import resample_to_output, smooth_image
from scipy import ndimage

PIXEL_MM = 2.0  # at most; coarser grids are interpolated
SMOOTHING_MM = 8.0  # full width at half maximum: single voxels of gradients are noise to the eye
EDGE = 0.35  # of white matter: where the mean scan is darker, only some of the brains reach
PERCENTILE = 99.5  # of the absolute map in the brain, where colours end


@dataclass(frozen=True)
class Display:
    """A map on pixels that are small enough to look at.

    Attributes:
        attribution: smoothed, (x, y, z).
        brain: the mean scan, (x, y, z).
        inside: where most of the brains are, ventricles included.
        limit: of the colours.
        affine: 4×4, from voxel indices to mm.
    """

    attribution: npt.NDArray[np.float64]
    brain: npt.NDArray[np.float64]
    inside: npt.NDArray[np.bool_]
    limit: float
    affine: npt.NDArray[np.float64]


def display(mean: npt.NDArray[Any], background: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> Display:
    """A mean map as it is shown.

    Args:
        mean: of attributions, (x, y, z).
        background: mean of the scans, white matter near 1, of the same shape.
        affine: 4×4, from voxel indices to mm, of an isotropic grid along the axes.
    """
    attribution, brain = (nib.Nifti1Image(np.asarray(one, np.float32), affine) for one in (mean, background))  # type: ignore[no-untyped-call]
    spacing_mm = float(affine[0, 0])
    if spacing_mm > PIXEL_MM:
        attribution, brain = (resample_to_output(one, PIXEL_MM, order=1) for one in (attribution, brain))  # type: ignore[no-untyped-call]
    shade = np.asarray(brain.get_fdata())
    inside = np.asarray(ndimage.binary_fill_holes(shade > EDGE), dtype=bool)
    smooth = np.asarray(smooth_image(attribution, max(SMOOTHING_MM, spacing_mm)).get_fdata())  # type: ignore[no-untyped-call]
    limit = float(np.percentile(np.abs(smooth[inside]), PERCENTILE)) if inside.any() else 0.0
    return Display(smooth, shade, inside, limit or 1.0, brain.affine)
