"""Our views: mild in geometry, so that what a diagnosis rests on survives, broad in intensity.

The paper's crops keep 22 % of the volume on average and stretch the axes by a factor of two against each other,
which destroys the sizes and proportions that age, sex and atrophy show in. These keep most of the brain at its own
size (a crop is not scaled up again; on the simulated cohort that cost the frozen features much of what tells sex,
see experiments/demo), and vary what scanners vary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from neuro_ssl.views.family import Views, check_at_least, check_range, check_share
from neuro_ssl.views.geometry import choose_crop, per_axis, view_matrix
from neuro_ssl.views.intensity import (
    bias_field_,
    blur_,
    contrast_,
    cutout,
    gamma_,
    low_resolution_,
    noise_,
    per_sample,
    standardise_,
)
from neuro_ssl.views.random import between, happens, uniform
from neuro_ssl.views.resample import resample

Change = Callable[[Tensor, Tensor, Tensor, bool], Tensor]  # (image, mask, keys, batched) → the image, changed


class Standard(Views):
    """One random view of each volume.

    Args:
        crop_scale: side of the crop, as a range of fractions of the volume's side; it is not resized.
        flip_probability: of the left–right flip.
        rotation_degrees: largest angle about each axis, both ways.
        scale_range: of a factor on the head's size, the same along all axes.
        stretch_range: of a further factor for each axis of its own.
        gamma_range: of the exponent over the view's own intensity range.
        contrast_range: of the factor on deviations from the brain's mean, before noise (white matter is near 1).
        noise_sd: largest standard deviation of the Rician noise, in units of the white-matter level.
        blur_sigma_voxels: largest Gaussian blur.
        cutout_side: side of the box taken out, as a fraction of the volume's side.
        probability: of each of gamma, contrast, noise, blur and cutout.
        bias_field_coefficient: largest coefficient, both ways, of the 19 polynomials up to the third degree whose
            sum is the field's logarithm; the logarithm's standard deviation over the volume is about as large.
        bias_field_probability: of the bias field.
        low_resolution_factor: thickest voxels, in voxels, along one axis or all.
        low_resolution_probability: of the low resolution.
        gaussian_noise_sd: largest standard deviation of Gaussian noise, in units of the white-matter level.
        gaussian_noise_probability: of the Gaussian noise.
        min_brain: share of the brain that a crop must show; else it is redrawn.
        redraws: candidate crops for each view; after that, the centre.
    """

    def __init__(
        self,
        crop_scale: tuple[float, float] = (0.9, 1.0),
        flip_probability: float = 0.5,
        rotation_degrees: float = 10.0,
        scale_range: tuple[float, float] = (1.0, 1.0),
        stretch_range: tuple[float, float] = (1.0, 1.0),
        gamma_range: tuple[float, float] = (0.7, 1.4),
        contrast_range: tuple[float, float] = (0.75, 1.25),
        noise_sd: float = 0.1,
        blur_sigma_voxels: float = 1.0,
        cutout_side: float = 0.25,
        probability: float = 0.3,
        bias_field_coefficient: float = 0.1,
        bias_field_probability: float = 0.3,
        low_resolution_factor: float = 2.0,
        low_resolution_probability: float = 0.0,
        gaussian_noise_sd: float = 0.1,
        gaussian_noise_probability: float = 0.0,
        min_brain: float = 0.25,
        redraws: int = 8,
    ) -> None:
        super().__init__()
        check_range("crop_scale", crop_scale, 0.1, 1)  # below a tenth nothing is left to see, on coarse grids no voxel
        for name, factors in (("scale_range", scale_range), ("stretch_range", stretch_range)):
            check_range(name, factors, 0.1)  # below a tenth a head is a few voxels; 0 would divide by zero
        check_range("gamma_range", gamma_range, 0)
        check_range("contrast_range", contrast_range, 0)
        check_share("flip_probability", flip_probability)
        check_share("probability", probability)
        check_share("bias_field_probability", bias_field_probability)
        check_share("low_resolution_probability", low_resolution_probability)
        check_share("gaussian_noise_probability", gaussian_noise_probability)
        check_share("cutout_side", cutout_side)
        check_share("min_brain", min_brain)
        check_at_least("noise_sd", noise_sd, 0)
        check_at_least("gaussian_noise_sd", gaussian_noise_sd, 0)
        check_at_least("blur_sigma_voxels", blur_sigma_voxels, 0)
        check_at_least("bias_field_coefficient", bias_field_coefficient, 0)
        check_at_least("low_resolution_factor", low_resolution_factor, 1)
        check_at_least("redraws", redraws, 1)
        self.crop_scale = crop_scale
        self.flip_probability = flip_probability
        self.rotation_degrees = rotation_degrees
        self.scale_range, self.stretch_range = scale_range, stretch_range
        self.gamma_range = gamma_range
        self.contrast_range = contrast_range
        self.noise_sd = noise_sd
        self.blur_sigma_voxels = blur_sigma_voxels
        self.cutout_side = cutout_side
        self.probability = probability
        self.bias_field_coefficient = bias_field_coefficient
        self.bias_field_probability = bias_field_probability
        self.low_resolution_factor = low_resolution_factor
        self.low_resolution_probability = low_resolution_probability
        self.gaussian_noise_sd = gaussian_noise_sd
        self.gaussian_noise_probability = gaussian_noise_probability
        self.min_brain = min_brain
        self.redraws = redraws

    def make(self, volume: Tensor, keys: Tensor, batched: bool) -> Tensor:
        """See `Views.make`."""
        image, mask = self._look(volume, keys, batched)
        # As the signal comes about: tissue, coil, voxels, receiver. Each name is that of its random numbers, too.
        for name, change, probability in (
            ("_gamma", self._gamma, self.probability),
            ("_contrast", self._contrast, self.probability),
            ("bias_field", self._bias_field, self.bias_field_probability),
            ("_blur", self._blur, self.probability),
            ("low_resolution", self._low_resolution, self.low_resolution_probability),
            ("_noise", self._noise, self.probability),
            ("gaussian_noise", self._gaussian_noise, self.gaussian_noise_probability),
        ):
            if probability > 0:
                chosen_B = happens(keys, name, probability)
                image = change_some(change, chosen_B, image, mask, keys, batched)
        mask = change_some(self._cutout, happens(keys, "cutout", self.probability), mask, mask, keys, batched)
        return standardise_(image, mask)

    def _look(self, volume: Tensor, keys: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
        """What the view shows of the volume: image and mask."""
        full_3 = per_axis([float(n) for n in volume.shape[:1:-1]], volume.device)
        low, high = self.crop_scale
        scale_BK1 = low + (high - low) * uniform(keys, "crop/scale", self.redraws, 1)
        sizes_BK3 = (scale_BK1 * full_3).round()
        starts_BK3 = uniform(keys, "crop/start", self.redraws, 3) * (full_3 - sizes_BK3 + 1)
        start_B3, size_B3 = choose_crop(volume, starts_BK3.long(), sizes_BK3.long(), self.min_brain, batched=batched)

        angle_B3 = (2 * uniform(keys, "rotation", 3) - 1) * self.rotation_degrees
        flip_B = happens(keys, "flip", self.flip_probability)
        low, high = self.stretch_range
        factor_B3 = low + (high - low) * uniform(keys, "stretch", 3)
        shown_B3 = full_3 / (factor_B3 * between(keys, "scale", *self.scale_range)[:, None])
        matrix_B34 = view_matrix((full_3 - shown_B3) / 2, shown_B3, flip_B, angle_B3.deg2rad(), volume.shape[2:])
        return resample(volume, start_B3, size_B3, matrix_B34, border=False, batched=batched)

    def _gamma(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        return gamma_(image, between(keys, "gamma", *self.gamma_range))

    def _contrast(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        return contrast_(image, mask, between(keys, "contrast", *self.contrast_range))

    def _bias_field(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        degree = torch.arange(4, device=keys.device)
        degree = degree[:, None, None] + degree[:, None] + degree
        coefficient = (2 * uniform(keys, "bias_field", 4, 4, 4) - 1) * self.bias_field_coefficient
        return bias_field_(image, coefficient * ((degree >= 1) & (degree <= 3)))  # a constant would change nothing

    def _blur(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        return blur_(image, mask, between(keys, "blur", 0, self.blur_sigma_voxels), boxed=not batched)

    def _low_resolution(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        factor_B1 = between(keys, "low_resolution", 1, self.low_resolution_factor)[:, None]
        which_B1 = (uniform(keys, "low_resolution/axis", 1) * 4).long()  # one of the three axes, or all
        affected_B3 = (which_B1 == torch.arange(3, device=keys.device)) | (which_B1 == 3)
        return low_resolution_(image, mask, torch.where(affected_B3, factor_B1, 1), boxed=not batched)

    def _noise(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        return noise_(image, keys, between(keys, "noise", 0, self.noise_sd), mask=None if batched else mask)

    def _gaussian_noise(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        sd_B = between(keys, "gaussian_noise/sd", 0, self.gaussian_noise_sd)
        inside = None if batched else mask
        return noise_(image, keys, sd_B, rician=False, stream="gaussian_noise", mask=inside)

    def _cutout(self, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
        return cutout(mask, keys, torch.full_like(keys[:, 0], self.cutout_side, dtype=torch.float32))


def change_some(change: Change, chosen_B: Tensor, image: Tensor, mask: Tensor, keys: Tensor, batched: bool) -> Tensor:
    """Change some samples of a batch: all of them, to keep some of the results, or one chosen sample after another."""
    if batched:
        changed = change(image.clone(), mask, keys, True)
        return torch.where(per_sample(chosen_B), changed, image)
    for sample in chosen_B.nonzero().squeeze(1).tolist():
        part = slice(sample, sample + 1)
        image[part] = change(image[part], mask[part], keys[part], False)
    return image
