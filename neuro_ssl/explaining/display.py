"""How a mean map is shown: one way for its picture (`figure`) and for the viewer of a report."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

SMOOTHING_MM = 8.0  # full width at half maximum: single voxels of gradients are noise to the eye
EDGE = 0.35  # of white matter: where the mean scan is darker, only some of the brains reach
PERCENTILE = 99.5  # of the absolute map in the brain, where colours end


def smoothing_mm(spacing_mm: float) -> float:
    """Full width at half maximum on a grid: at least a voxel."""
    return max(SMOOTHING_MM, spacing_mm)


def inside_brain(mean_scan: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where most of the brains are, ventricles included.

    Args:
        mean_scan: (…) white matter near 1.
    """
    return np.asarray(ndimage.binary_fill_holes(mean_scan > EDGE), dtype=bool)
