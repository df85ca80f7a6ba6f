"""The paper's views (Kaczmarek et al. 2025), all in one resampling.

Crop of random size at a random place → resize → left–right flip → rotation in the axial plane, beyond the crop its
border (the default of MONAI's rotation) → intensity shift → gamma → masked z-score. The shift is kept although it
changes nothing: gamma works on the range, and the masked z-score removes any offset.

Differs: crops without brain are redrawn a bounded number of times (the public code loops for ever), and there is one
interpolation where crops are rotated instead of two. Inside the brain, in standard deviations of the view, that makes
a difference from MONAI's transforms with the same parameters of 0.002 in the median, 0.026 at the 95th percentile and
0.66 at most (1 mm; 0.006, 0.067 and 1.2 at 2 mm), and of 0.00004 at most without rotation. MONAI's nearest-voxel
masks are off by up to half a voxel; where the mean and standard deviation are taken over each one's own mask, that
shifts and scales views by 0.005 in the median, 0.035 at the 95th percentile and 0.28 at most (1 mm; without
rotation). All from `python experiments/throughput/views_error.py --grid paper_1mm` (or `2mm`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from neuro_ssl.errors import InputError
from neuro_ssl.grid import CROP_SHAPE_ZYX
from neuro_ssl.views.family import Views, check_at_least, check_range, check_share
from neuro_ssl.views.geometry import choose_crop, per_axis, view_matrix
from neuro_ssl.views.intensity import gamma_, per_sample, standardise_
from neuro_ssl.views.random import between, happens, uniform
from neuro_ssl.views.resample import resample


class Parameters(NamedTuple):
    """What the paper draws for a view, in the order in which it is applied; B batch."""

    start_B3: Tensor  # first voxel of the crop along (x, y, z)
    size_B3: Tensor  # its size in voxels
    flip_B: Tensor  # whether left and right change places
    angle_radians_B: Tensor  # about the z axis
    offset_B: Tensor  # added to intensities
    exponent_B: Tensor  # of gamma


class Kaczmarek2025(Views):
    """One random view of each volume.

    Args:
        min_crop_voxels: smallest crop along (z, y, x) at the paper's 150×192×192; scaled to other grids.
        flip_probability: of the left–right flip.
        rotation_probability: of the rotation about the z axis.
        rotation_radians: largest angle, both ways.
        shift: largest intensity offset, both ways.
        shift_probability: of the offset.
        gamma_range: of the exponent.
        gamma_probability: of the exponent.
        redraws: candidate crops for each view; after that, the centre.
    """

    def __init__(
        self,
        min_crop_voxels: tuple[int, int, int] = (30, 40, 40),
        flip_probability: float = 0.5,
        rotation_probability: float = 0.5,
        rotation_radians: float = 0.785,
        shift: float = 0.5,
        shift_probability: float = 0.8,
        gamma_range: tuple[float, float] = (0.5, 1.5),
        gamma_probability: float = 0.8,
        redraws: int = 8,
    ) -> None:
        super().__init__()
        check_share("flip_probability", flip_probability)
        check_share("rotation_probability", rotation_probability)
        check_share("shift_probability", shift_probability)
        check_share("gamma_probability", gamma_probability)
        check_range("gamma_range", gamma_range, 0)
        check_at_least("redraws", redraws, 1)
        if not all(1 <= n <= full for n, full in zip(min_crop_voxels, CROP_SHAPE_ZYX, strict=True)):
            raise InputError(f"views.min_crop_voxels must be from 1 to {CROP_SHAPE_ZYX}, got {list(min_crop_voxels)}")
        self.min_crop_fraction_zyx = [n / size for n, size in zip(min_crop_voxels, CROP_SHAPE_ZYX, strict=True)]
        self.flip_probability = flip_probability
        self.rotation_probability = rotation_probability
        self.rotation_radians = rotation_radians
        self.shift = shift
        self.shift_probability = shift_probability
        self.gamma_range = gamma_range
        self.gamma_probability = gamma_probability
        self.redraws = redraws

    def candidate_crops(self, shape_zyx: torch.Size, keys: Tensor) -> tuple[Tensor, Tensor]:
        """First voxel and size in voxels along (x, y, z) of `redraws` crops a sample, (batch, redraws, 3) each."""
        full_3 = per_axis([float(n) for n in shape_zyx[::-1]], keys.device)
        least_3 = (full_3 * per_axis(self.min_crop_fraction_zyx[::-1], keys.device)).round()
        sizes_BK3 = least_3 + (uniform(keys, "crop/size", self.redraws, 3) * (full_3 - least_3 + 1)).floor()
        starts_BK3 = uniform(keys, "crop/start", self.redraws, 3) * (full_3 - sizes_BK3 + 1)
        return starts_BK3.long(), sizes_BK3.long()

    def draw(self, volume: Tensor, keys: Tensor, batched: bool) -> Parameters:
        """What becomes of each volume of a batch under these keys."""
        candidates = self.candidate_crops(volume.shape[2:], keys)
        start_B3, size_B3 = choose_crop(volume, *candidates, batched=batched)
        angle_B = between(keys, "rotation", -self.rotation_radians, self.rotation_radians)
        offset_B = between(keys, "shift", -self.shift, self.shift)
        exponent_B = between(keys, "gamma", *self.gamma_range)
        return Parameters(
            start_B3,
            size_B3,
            flip_B=happens(keys, "flip", self.flip_probability),
            angle_radians_B=torch.where(happens(keys, "rotation", self.rotation_probability), angle_B, 0),
            offset_B=torch.where(happens(keys, "shift", self.shift_probability), offset_B, 0),
            exponent_B=torch.where(happens(keys, "gamma", self.gamma_probability), exponent_B, 1),
        )

    def make(self, volume: Tensor, keys: Tensor, batched: bool) -> Tensor:
        """See `Views.make`."""
        return render(volume, self.draw(volume, keys, batched), batched)


def render(volume: Tensor, parameters: Parameters, batched: bool) -> Tensor:
    """The views (batch, 1, z, y, x) that these parameters give; for `batched` see `Views.make`."""
    start_B3, size_B3, flip_B, angle_B, offset_B, exponent_B = parameters
    angle_B3 = torch.stack([torch.zeros_like(angle_B), torch.zeros_like(angle_B), angle_B], dim=1)
    matrix_B34 = view_matrix(start_B3, size_B3, flip_B, angle_B3, volume.shape[2:])
    image, mask = resample(volume, start_B3, size_B3, matrix_B34, border=True, batched=batched)
    image += per_sample(offset_B)
    return standardise_(gamma_(image, exponent_B), mask)
