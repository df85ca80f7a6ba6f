"""The paper's views (Kaczmarek et al. 2025), all in one resampling.

Crop of random size at a random place → resize → left–right flip → rotation in the axial plane → intensity shift →
gamma → masked z-score. Differs: one interpolation instead of three; crops without brain are redrawn a bounded number
of times (the public code loops for ever). The intensity shift is kept although it changes nothing: gamma works on
the range, and the masked z-score removes any offset.
"""

import torch
from torch import Tensor, nn

from neuro_ssl.views.geometry import choose_crop, resample, view_matrix
from neuro_ssl.views.intensity import gamma, per_sample, standardise
from neuro_ssl.views.random import between, happens, uniform


class Kaczmarek2025(nn.Module):
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
        self.min_crop_fraction_zyx = [n / size for n, size in zip(min_crop_voxels, (150, 192, 192), strict=True)]
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
        full_3 = torch.tensor(shape_zyx[::-1], device=keys.device)
        least_3 = (full_3 * torch.tensor(self.min_crop_fraction_zyx[::-1], device=keys.device)).round().long()
        sizes_BK3 = least_3 + (uniform(keys, "crop/size", self.redraws, 3) * (full_3 - least_3 + 1)).long()
        return (uniform(keys, "crop/start", self.redraws, 3) * (full_3 - sizes_BK3 + 1)).long(), sizes_BK3

    def forward(self, volume: Tensor, keys: Tensor) -> Tensor:
        """(batch, 1, z, y, x), brain > 0, and keys (batch, 2) → standardised views of the same shape, float32."""
        volume = volume.float()
        start_B3, size_B3 = choose_crop(volume, *self.candidate_crops(volume.shape[2:], keys))

        angle_B = between(keys, "rotation", -self.rotation_radians, self.rotation_radians)
        angle_B = torch.where(happens(keys, "rotation", self.rotation_probability), angle_B, 0)
        angle_B3 = torch.stack([torch.zeros_like(angle_B), torch.zeros_like(angle_B), angle_B], dim=1)
        flip_B = happens(keys, "flip", self.flip_probability)
        image, mask = resample(volume, view_matrix(start_B3, size_B3, flip_B, angle_B3, volume.shape[2:]))

        offset_B = between(keys, "shift", -self.shift, self.shift)
        image = image + per_sample(torch.where(happens(keys, "shift", self.shift_probability), offset_B, 0))
        exponent_B = between(keys, "gamma", *self.gamma_range)
        image = gamma(image, torch.where(happens(keys, "gamma", self.gamma_probability), exponent_B, 1))
        return standardise(image, mask)
