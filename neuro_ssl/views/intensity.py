"""What scanners and protocols do to intensities, with parameters of its own for each sample of a batch.

All functions take the image (batch, 1, z, y, x) in float32 and the brain mask (boolean), and treat voxels outside
the mask as absent. Legend: B batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro_ssl.views.random import normal_pair, uniform


def per_sample(parameter_B: Tensor) -> Tensor:
    """(batch,) → (batch, 1, 1, 1, 1), to broadcast over volumes."""
    return parameter_B.view(-1, 1, 1, 1, 1)


def standardise(image: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance over each sample's brain, exactly 0 outside (the paper's masked z-score)."""
    count = mask.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1)
    image = torch.where(mask, image, 0)
    mean = image.sum(dim=(2, 3, 4), keepdim=True) / count
    centred = torch.where(mask, image - mean, 0)
    variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-12)


def gamma(image: Tensor, exponent_B: Tensor) -> Tensor:
    """Raise to a power over each sample's own range, background included (MONAI's `AdjustContrast`)."""
    low = image.amin(dim=(2, 3, 4), keepdim=True)
    extent = image.amax(dim=(2, 3, 4), keepdim=True) - low
    return ((image - low) / (extent + 1e-7)).clamp(min=0) ** per_sample(exponent_B) * extent + low


def contrast(image: Tensor, mask: Tensor, factor_B: Tensor) -> Tensor:
    """Scale each sample's deviations from its brain's mean."""
    count = mask.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1)
    mean = torch.where(mask, image, 0).sum(dim=(2, 3, 4), keepdim=True) / count
    return mean + (image - mean) * per_sample(factor_B)


def noise(image: Tensor, keys_B2: Tensor, sd_B: Tensor) -> Tensor:
    """Rician noise (Gudbjartsson & Patz 1995): Gaussian in both channels of the complex signal, then the magnitude."""
    real, imaginary = normal_pair(keys_B2, "noise", *image.shape[1:])
    return torch.hypot(image + per_sample(sd_B) * real, per_sample(sd_B) * imaginary)


def blur(image: Tensor, mask: Tensor, sigma_voxels_B: Tensor) -> Tensor:
    """Gaussian blur, one axis after another, that doesn't let the background bleed into the brain's edge."""
    radius = 3
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel_Bk = torch.exp(-0.5 * (offsets / sigma_voxels_B.clamp(min=0.05)[:, None]).square())
    kernel_Bk = kernel_Bk / kernel_Bk.sum(dim=1, keepdim=True)

    def smooth(x: Tensor) -> Tensor:
        x = x.transpose(0, 1)  # the batch as channels of one grouped convolution
        for axis in range(3):
            shape = [len(kernel_Bk), 1, 1, 1, 1]
            shape[2 + axis] = 2 * radius + 1
            padding = [radius if a == axis else 0 for a in range(3)]
            x = F.conv3d(x, kernel_Bk.view(shape), padding=padding, groups=len(kernel_Bk))
        return x.transpose(0, 1)

    weight = mask.to(image.dtype)
    return torch.where(mask, smooth(image * weight) / smooth(weight).clamp(min=1e-6), image)


def cutout(mask: Tensor, keys_B2: Tensor, side_fraction_B: Tensor) -> Tensor:
    """Take a box out of the brain mask: its sides are this fraction of the volume's, its centre is uniform."""
    centre_B3 = uniform(keys_B2, "cutout/centre", 3)
    inside = torch.ones_like(mask)
    for axis, size in enumerate(mask.shape[2:]):
        position = (torch.arange(size, device=mask.device) + 0.5) / size
        near = (position[None] - centre_B3[:, axis, None]).abs() < side_fraction_B[:, None] / 2
        inside &= near.view(-1, 1, *[size if a == axis else 1 for a in range(3)])
    return mask & ~inside
