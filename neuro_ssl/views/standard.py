"""Our views: mild in geometry, so that what a diagnosis rests on survives, broad in intensity.

The paper's crops keep 22 % of the volume on average and stretch the axes by a factor of two against each other,
which destroys the sizes and proportions that age, sex and atrophy show in. These keep most of the brain at its own
size (a crop is not scaled up again; on the simulated cohort that cost the frozen features much of what tells sex,
see experiments/demo), and vary what scanners vary.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from neuro_ssl.views.geometry import choose_crop, crop_in_place, resample, view_matrix
from neuro_ssl.views.intensity import blur, contrast, cutout, gamma, noise, standardise
from neuro_ssl.views.random import between, happens, uniform

Change = Callable[[Tensor, Tensor, Tensor], Tensor]  # (image, mask, keys) of some samples → their changed images


class Standard(nn.Module):
    """One random view of each volume.

    Args:
        crop_scale: side of the crop, as a range of fractions of the volume's side; it is not resized.
        flip_probability: of the left–right flip.
        rotation_degrees: largest angle about each axis, both ways.
        gamma_range: of the exponent over the view's own intensity range.
        contrast_range: of the factor on deviations from the brain's mean, before noise (white matter is near 1).
        noise_sd: largest standard deviation of the Rician noise, in units of the white-matter level.
        blur_sigma_voxels: largest Gaussian blur.
        cutout_side: side of the box taken out, as a fraction of the volume's side.
        probability: of each of gamma, contrast, noise, blur and cutout.
        min_brain: share of the brain that a crop must show; else it is redrawn.
        redraws: candidate crops for each view; after that, the centre.
    """

    def __init__(
        self,
        crop_scale: tuple[float, float] = (0.9, 1.0),
        flip_probability: float = 0.5,
        rotation_degrees: float = 10.0,
        gamma_range: tuple[float, float] = (0.7, 1.4),
        contrast_range: tuple[float, float] = (0.75, 1.25),
        noise_sd: float = 0.1,
        blur_sigma_voxels: float = 1.0,
        cutout_side: float = 0.25,
        probability: float = 0.3,
        min_brain: float = 0.25,
        redraws: int = 8,
    ) -> None:
        super().__init__()
        self.crop_scale = crop_scale
        self.flip_probability = flip_probability
        self.rotation_degrees = rotation_degrees
        self.gamma_range = gamma_range
        self.contrast_range = contrast_range
        self.noise_sd = noise_sd
        self.blur_sigma_voxels = blur_sigma_voxels
        self.cutout_side = cutout_side
        self.probability = probability
        self.min_brain = min_brain
        self.redraws = redraws

    def forward(self, volume: Tensor, keys: Tensor) -> Tensor:
        """(batch, 1, z, y, x), brain > 0, and keys (batch, 2) → standardised views of the same shape, float32."""
        volume = volume.float()
        full_3 = torch.tensor(volume.shape[:1:-1], device=volume.device)
        low, high = self.crop_scale
        scale_BK1 = low + (high - low) * uniform(keys, "crop/scale", self.redraws, 1)
        sizes_BK3 = (scale_BK1 * full_3).round().long()
        starts_BK3 = (uniform(keys, "crop/start", self.redraws, 3) * (full_3 - sizes_BK3 + 1)).long()
        start_B3, size_B3 = choose_crop(volume, starts_BK3, sizes_BK3, self.min_brain)

        volume = crop_in_place(volume, start_B3, size_B3)

        angle_B3 = (2 * uniform(keys, "rotation", 3) - 1) * self.rotation_degrees
        flip_B = happens(keys, "flip", self.flip_probability)
        whole = torch.zeros_like(start_B3), full_3.expand_as(size_B3)
        matrix_B34 = view_matrix(*whole, flip_B, angle_B3.deg2rad(), volume.shape[2:])
        image, mask = resample(volume, matrix_B34)

        for change in (self._gamma, self._contrast, self._blur, self._noise):
            image = self._sometimes(change, image, mask, keys)
        side_B = torch.where(happens(keys, "cutout", self.probability), self.cutout_side, 0)
        return standardise(image, cutout(mask, keys, side_B))

    def _sometimes(self, change: Change, image: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """Change some samples of the batch; the others cost nothing."""
        chosen = happens(keys, change.__name__, self.probability).nonzero().squeeze(1)
        if len(chosen) == 0:
            return image
        return image.index_copy(0, chosen, change(image[chosen], mask[chosen], keys[chosen]))

    def _gamma(self, image: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        return gamma(image, between(keys, "gamma", *self.gamma_range))

    def _contrast(self, image: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        return contrast(image, mask, between(keys, "contrast", *self.contrast_range))

    def _blur(self, image: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        return blur(image, mask, between(keys, "blur", 0, self.blur_sigma_voxels))

    def _noise(self, image: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        return noise(image, keys, between(keys, "noise", 0, self.noise_sd))
