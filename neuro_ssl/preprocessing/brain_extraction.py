"""Brain masks: given, from deepbet, or the voxels > 0 of an image that is already stripped.

deepbet: Fisch et al. 2024, doi 10.1016/j.compbiomed.2024.108845; its networks lie in its wheel. The mask includes
ventricles and sulcal CSF, as the paper's does.
"""

import functools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.nifti import read_nifti

BRAIN_ML = (300.0, 2500.0)  # a newborn's brain has about 350 ml; the largest adult intracranial volumes about 2100


def given_mask(path: str | Path, shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Read the mask of an image, in RAS orientation as `read_nifti` gives the image.

    Raises:
        InputError: unreadable or empty, or on another grid than the image.
    """
    mask, mask_affine = read_nifti(path)  # refuses a mask of zeros: it is constant
    if mask.shape != shape or not np.allclose(mask_affine, affine, atol=0.1):
        raise InputError(
            f"{path}: the mask's grid (shape {mask.shape}, first voxel at {mask_affine[:3, 3].round(1)} mm) differs "
            f"from its image's (shape {shape}, {affine[:3, 3].round(1)} mm); resample the mask onto the image"
        )
    return mask > 0.5


def deepbet_mask(voxels: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Segment the brain in a whole head.

    Args:
        voxels: (x, y, z) in RAS orientation.
        affine: from voxel indices to RAS mm.

    Raises:
        InputError: the network finds no brain.
    """
    image = nib.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
    try:
        _, mask, _ = _deepbet().run(image)
    except (AssertionError, ValueError) as error:  # what deepbet raises where its foreground is empty
        raise InputError(f"deepbet finds no brain ({error}); is this a T1w image of a whole head?") from error
    return np.asarray(mask.dataobj) > 0


@functools.cache
def _deepbet() -> Any:
    """Load the networks once a process; here rather than above, as masks need no torch."""
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=False)
