"""Brain masks: given, from deepbet or SynthStrip, or the voxels > 0 of an image that is already stripped.

deepbet: Fisch et al. 2024, doi 10.1016/j.compbiomed.2024.108845; its networks lie in its wheel. SynthStrip: Hoopes et
al. 2022, doi 10.1016/j.neuroimage.2022.119474; the command `mri_synthstrip` of FreeSurfer (7.3 or later) or of its own
container. Both masks include ventricles and sulcal CSF, as the paper's does.
"""

import functools
import shutil
import subprocess
import tempfile
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


def synthstrip_mask(voxels: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Segment the brain by `mri_synthstrip`, with its border of 1 mm, as in the paper's chain.

    Args:
        voxels: (x, y, z).
        affine: from voxel indices to RAS mm.

    Raises:
        InputError: the command is not on the PATH, or fails.
    """
    check_synthstrip()
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder) / "image.nii.gz", Path(folder) / "mask.nii.gz"
        nib.Nifti1Image(voxels, affine).to_filename(image)  # type: ignore[no-untyped-call]
        done = subprocess.run(["mri_synthstrip", "-i", image, "-m", mask], capture_output=True, text=True, check=False)
        if done.returncode or not mask.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"mri_synthstrip failed with status {done.returncode} ({said[0]}); or use deepbet")
        found: npt.NDArray[np.bool_] = np.asarray(nib.load(mask).dataobj) > 0  # type: ignore[attr-defined]
    if found.shape != voxels.shape or not found.any():
        raise InputError("mri_synthstrip finds no brain; is this an image of a whole head?")
    return found


def check_synthstrip() -> None:
    """Raise an `InputError` where `mri_synthstrip` is not on the PATH."""
    if shutil.which("mri_synthstrip") is None:
        raise InputError(
            "brain_extraction=synthstrip: there is no command mri_synthstrip on the PATH; install FreeSurfer 7.3 or "
            "later, or SynthStrip alone (surfer.nmr.mgh.harvard.edu/docs/synthstrip), or use brain_extraction=deepbet"
        )


@functools.cache
def _deepbet() -> Any:
    """Load the networks once a process; here rather than above, as masks need no torch."""
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=False)
