"""The intensity of white matter, the unit of all volumes: the last mode of the brain's histogram, as in WhiteStripe.

WhiteStripe: Shinohara et al. 2014, doi 10.1016/j.nicl.2014.08.008. Differs: the histogram is of the brain's most
homogeneous interior, because on whole brains without bias field correction (IXI at 2 mm) white matter is often a
shoulder of the grey-matter peak and has no mode of its own, while deep white matter alone peaks clearly; only the mode
is used, as a divisor, so that intensities stay non-negative; a mode that cannot be white matter is an error.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from neuro_ssl.errors import InputError

EROSION_VOXELS = 2  # leaves out the cortex's outer rim and whatever the mask holds beyond it
HOMOGENEOUS_PERCENT = 25  # of the interior: the share with the smallest gradients
TAIL_PERCENTILE = 96  # above lie vessels and remains of fat
BANDWIDTH_FRACTION = 1 / 20  # of the largest intensity left; the paper's 1/80 finds ripples of the noise
BINS = 1000
PROMINENCE = 0.05  # of the highest peak, for a peak to count


def white_matter_level(voxels: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
    """Find the white-matter mode of a T1w image.

    Args:
        voxels: (x, y, z), the image.
        mask: the brain, same shape.

    Returns:
        The level, in the image's own units.

    Raises:
        InputError: the last mode is not positive, or no brighter than half of the brain.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    voxels, mask = voxels[box], mask[box]
    interior = ndimage.binary_erosion(mask, iterations=EROSION_VOXELS)
    gradient = ndimage.generic_gradient_magnitude(voxels, ndimage.sobel)[interior]
    values = voxels[interior][gradient <= np.percentile(gradient, HOMOGENEOUS_PERCENT)]
    values = values[values <= np.percentile(values, TAIL_PERCENTILE)]
    counts, edges = np.histogram(values, BINS)
    bandwidth = BANDWIDTH_FRACTION * float(np.abs(values).max()) / (edges[1] - edges[0])
    density = ndimage.gaussian_filter1d(counts.astype(np.float64), bandwidth, mode="constant")
    peaks, _ = signal.find_peaks(np.pad(density, 1), prominence=PROMINENCE * density.max())
    level = float(edges[peaks[-1] - 1] + edges[peaks[-1]]) / 2
    if level <= max(0.0, float(np.median(voxels[mask]))):
        raise InputError(
            f"its white-matter peak ({level:g}) is not above the median of the brain; "
            "is it a T1w image, and is its mask the brain?"
        )
    return level
