"""The steps from one image to one volume, and the settings that tell volumes of different preprocessing apart.

The paper's chain (TurboPrep): N4, brain extraction, rigid registration to MNI152, white-matter scaling, crop. Differs:
one interpolation, from the scan's grid to the volume's; the brain mask of step two is kept where the paper segments the
registered image again; white matter is the unit, as the z-score belongs after the views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.bias_field import correct_bias_field
from neuro_ssl.preprocessing.brain_extraction import (
    BRAIN_ML,
    check_synthstrip,
    deepbet_mask,
    given_mask,
    synthstrip_mask,
)
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.registration import Registration, register
from neuro_ssl.preprocessing.resampling import resample_brain
from neuro_ssl.preprocessing.white_matter import white_matter_level

VERSION = 2  # raise it whenever the same image gives other voxels
DARKEST_BRAIN = 1e-4  # float16 keeps it above 0 with full precision: its smallest normal number is 6.1e-5

BrainExtraction = Literal["mask", "deepbet", "synthstrip", "none"]


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
        brain_extraction: `mask` (each scan's own), `deepbet`, `synthstrip`, or `none` (images are already stripped).
        registration: to MNI152: `rigid`, `affine`, `centre` (translation alone), or `none` (already there).
        bias_correction: whether to run N4.
    """

    grid: Grid
    brain_extraction: BrainExtraction
    registration: Registration = "rigid"
    bias_correction: bool = True

    @classmethod
    def of(cls, grid: Grid, settings: Mapping[str, Any]) -> "Preprocessing":
        """What these settings describe; those of another version may describe something else."""
        return cls(grid, **{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides about voxel values, besides the grid; ready for JSON."""
        return {
            "version": VERSION,
            "brain_extraction": self.brain_extraction,
            "registration": self.registration,
            "bias_correction": self.bias_correction,
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
            if self.bias_correction:
                voxels = correct_bias_field(voxels, affine)
            mask = self._mask(voxels, affine, mask_path)
            brain_ml = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
            if not BRAIN_ML[0] <= brain_ml <= BRAIN_ML[1]:
                raise InputError(
                    f"its brain mask has {brain_ml:.0f} ml, and a brain {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f}; "
                    "check the mask, the voxel size in the header, and brain_extraction"
                )
            level = white_matter_level(voxels, mask)
            to_scan = register(voxels, mask, affine, self.registration)
        except InputError as error:
            raise InputError(f"{image_path}: {error}") from error
        intensity, inside = resample_brain(voxels, mask, affine, to_scan, self.grid)
        scaled = np.clip(intensity / level, DARKEST_BRAIN, np.finfo(np.float16).max)
        volume = np.where(inside, scaled, 0).astype(np.float16)
        return BrainVolume(volume, {"brain_ml": brain_ml}, to_scan)

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
            case "synthstrip":
                return synthstrip_mask(voxels, affine)
            case "none":
                return voxels > 0


def choose_brain_extraction(requested: str, masks: Mapping[str, str | None]) -> BrainExtraction:
    """Resolve `auto` for a whole cohort: volumes of one store must not differ by how they were stripped.

    Args:
        requested: `auto`, `mask`, `deepbet`, `synthstrip` or `none`.
        masks: the mask's path, or None, of each image.

    Raises:
        InputError: another word; masks for some images only, under `auto` or `mask`; or a tool that is not installed.
    """
    if requested == "synthstrip":
        check_synthstrip()
    if requested in ("deepbet", "synthstrip", "none"):
        return cast(BrainExtraction, requested)
    if requested not in ("auto", "mask"):
        raise InputError(f"brain_extraction must be auto, mask, deepbet, synthstrip or none, got {requested!r}")
    without = [image for image, mask in masks.items() if mask is None]
    if not without:
        return "mask"
    if requested == "auto" and len(without) == len(masks):
        return "deepbet"
    raise InputError(
        f"{len(without)} of {len(masks)} images have no mask, first {without[0]}; "
        "give all of them one, or set brain_extraction=deepbet"
    )
