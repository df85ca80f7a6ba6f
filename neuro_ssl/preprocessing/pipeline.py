"""The steps from one image to one volume, and the settings that tell volumes of different preprocessing apart.

Thinner than the paper's chain: no bias field correction, no rotation, and white matter as the unit instead of a
z-score, which belongs after the views.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.brain_extraction import BRAIN_ML, deepbet_mask, given_mask
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.resampling import resample_brain
from neuro_ssl.preprocessing.white_matter import white_matter_level

VERSION = 1  # raise it whenever the same image gives other voxels
DARKEST_BRAIN = 1e-4  # float16 keeps it above 0 with full precision: its smallest normal number is 6.1e-5

BrainExtraction = Literal["mask", "deepbet", "none"]


@dataclass(frozen=True)
class BrainVolume:
    """A preprocessed scan.

    Attributes:
        volume: (z, y, x), float16; brain voxels > 0 with white matter near 1, everything else exactly 0.
        measurements: numbers for quality control, such as `brain_ml`, the volume of the brain mask before anything was
            cropped.
        to_scan: 4×4 matrix from MNI mm to the scan's own mm, both RAS.
    """

    volume: npt.NDArray[np.float16]
    measurements: dict[str, float]
    to_scan: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to every scan of a store.

    Attributes:
        grid: the voxel grid of the volumes.
        brain_extraction: `mask` (each scan's own), `deepbet`, or `none` (images are already stripped).
    """

    grid: Grid
    brain_extraction: BrainExtraction

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides about voxel values, besides the grid; ready for JSON."""
        return {
            "version": VERSION,
            "brain_extraction": self.brain_extraction,
            "alignment": "centre of mass",
            "intensity": "white matter = 1",
        }

    def __call__(self, image_path: str, mask_path: str | None = None) -> BrainVolume:
        """Preprocess one scan.

        Args:
            image_path: a NIfTI file.
            mask_path: its brain mask; needed by, and only used with, `brain_extraction="mask"`.

        Raises:
            InputError: names the file, what is wrong with it and what to do.
        """
        voxels, affine = read_nifti(image_path)
        try:
            mask = self._mask(voxels, affine, mask_path)
            brain_ml = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
            if not BRAIN_ML[0] <= brain_ml <= BRAIN_ML[1]:
                raise InputError(
                    f"its brain mask has {brain_ml:.0f} ml, and a brain {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f}; "
                    "check the mask, the voxel size in the header, and brain_extraction"
                )
            level = white_matter_level(voxels, mask)
        except InputError as error:
            raise InputError(f"{image_path}: {error}") from error
        intensity, inside = resample_brain(voxels, mask, affine, self.grid)
        scaled = np.clip(intensity / level, DARKEST_BRAIN, np.finfo(np.float16).max)
        volume = np.where(inside, scaled, 0).astype(np.float16)
        return BrainVolume(volume, {"brain_ml": brain_ml}, np.eye(4))

    def _mask(
        self, voxels: npt.NDArray[np.float32], affine: npt.NDArray[np.float64], mask_path: str | None
    ) -> npt.NDArray[np.bool_]:
        match self.brain_extraction:
            case "mask":
                if mask_path is None:
                    raise InputError("it has no mask_path; brain_extraction=deepbet makes a mask")
                return given_mask(mask_path, voxels.shape, affine)
            case "deepbet":
                return deepbet_mask(voxels, affine)
            case "none":
                return voxels > 0


def choose_brain_extraction(requested: str, masks: Mapping[str, str | None]) -> BrainExtraction:
    """Resolve `auto` for a whole cohort: volumes of one store must not differ by how they were stripped.

    Args:
        requested: `auto`, `mask`, `deepbet` or `none`.
        masks: the mask's path, or None, of each image.

    Raises:
        InputError: another word; or masks for some images only, under `auto` or `mask`.
    """
    if requested in ("deepbet", "none"):
        return "deepbet" if requested == "deepbet" else "none"
    if requested not in ("auto", "mask"):
        raise InputError(f"brain_extraction must be auto, mask, deepbet or none, got {requested!r}")
    without = [image for image, mask in masks.items() if mask is None]
    if not without:
        return "mask"
    if requested == "auto" and len(without) == len(masks):
        return "deepbet"
    raise InputError(
        f"{len(without)} of {len(masks)} images have no mask, first {without[0]}; "
        "give all of them one, or set brain_extraction=deepbet"
    )
