"""What scanners and protocols do to intensities, with parameters of its own for each sample of a batch.

All functions take the image (batch, 1, z, y, x) in float32 and the brain mask (boolean), and treat voxels outside the
mask as absent. Those whose name ends in `_` write their result into the image that they are given, as torch's do: on
a CPU a fresh volume of 22 MB costs more, page by page, than what is computed into it. Legend: B batch.
"""

import torch
from torch import Tensor, nn

from neuro_ssl.contract import Intensity
from neuro_ssl.errors import InputError
from neuro_ssl.views.geometry import brain_box
from neuro_ssl.views.random import normal_pair, uniform


def per_sample(parameter_B: Tensor) -> Tensor:
    """(batch,) → (batch, 1, 1, 1, 1), to broadcast over volumes."""
    return parameter_B.view(-1, 1, 1, 1, 1)


def standardise(image: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance over each sample's brain, exactly 0 outside (the paper's masked z-score)."""
    return standardise_(image.clone(), mask)


def standardise_(image: Tensor, mask: Tensor) -> Tensor:
    """See `standardise`."""
    count, outside = _count(mask), ~mask
    mean = image.masked_fill_(outside, 0).sum(dim=(2, 3, 4), keepdim=True) / count
    image.sub_(mean).masked_fill_(outside, 0)
    # After the mean, since the mean of squares less the square of the mean loses digits; first over each slice, since
    # a sum of millions in float32 loses them, too.
    square = torch.linalg.vector_norm(image, dim=(3, 4), keepdim=True).square_().sum(dim=2, keepdim=True)
    return image.div_(torch.sqrt(square / count + 1e-12))


def normalise(volume: Tensor, intensity: Intensity) -> Tensor:
    """A store's volumes as an encoder expects them.

    Args:
        volume: (batch, 1, z, y, x), brain > 0, everything else exactly 0.
        intensity: see `contract.Intensity`.

    Returns:
        The same shape, in float32; of a constant volume zeros.
    """
    volume = volume.float()
    if intensity == "z_score_brain":
        return standardise(volume, volume > 0)
    if intensity == "z_score_volume":
        return standardise(volume, torch.ones_like(volume, dtype=torch.bool))
    low, high = (extreme(volume, dim=(2, 3, 4), keepdim=True) for extreme in (torch.amin, torch.amax))
    return (volume - low) / (high - low).clamp(min=1e-12)


def intensity_of(encoder: nn.Module) -> Intensity:
    """How volumes are to be normalised for an encoder: as it says, or else as this package's own."""
    intensity: Intensity = getattr(encoder, "intensity", "z_score_brain")
    return intensity


def check_views(views: nn.Module | None, encoder: nn.Module) -> None:
    """Refuse views, which end in a z-score over the brain, for an encoder that expects another intensity.

    Raises:
        InputError: naming it.
    """
    if views is not None and (intensity := intensity_of(encoder)) != "z_score_brain":
        raise InputError(
            f"these weights expect volumes normalised by {intensity}, and views end in z_score_brain: use views=none"
        )


def _count(mask: Tensor) -> Tensor:
    """Voxels of each sample's mask, at least 1."""
    return mask.view(torch.uint8).sum(dim=(2, 3, 4), keepdim=True, dtype=torch.int32).clamp_(min=1)


def gamma_(image: Tensor, exponent_B: Tensor) -> Tensor:
    """Raise to a power over each sample's own range, background included (MONAI's `AdjustContrast`)."""
    low = image.amin(dim=(2, 3, 4), keepdim=True)
    extent = image.amax(dim=(2, 3, 4), keepdim=True) - low
    return image.sub_(low).div_(extent + 1e-7).pow_(per_sample(exponent_B)).mul_(extent).add_(low)


def contrast_(image: Tensor, mask: Tensor, factor_B: Tensor) -> Tensor:
    """Scale each sample's deviations from its brain's mean."""
    mean = image.masked_fill_(~mask, 0).sum(dim=(2, 3, 4), keepdim=True) / _count(mask)
    return image.sub_(mean).mul_(per_sample(factor_B)).add_(mean)


def bias_field_(image: Tensor, coefficient_Bkji: Tensor) -> Tensor:
    """Multiply by exp(Σ c_kji P_k(z) P_j(y) P_i(x)) with Legendre polynomials over −1…1 (MONAI's `RandBiasField`).

    Args:
        coefficient_Bkji: (batch, 4, 4, 4), up to the third degree along each axis.
    """
    if coefficient_Bkji.shape[1:] != (4, 4, 4):
        raise ValueError(f"coefficients must be (batch, 4, 4, 4), got {tuple(coefficient_Bkji.shape)}")
    z_4n, y_4n, x_4n = (_legendre(n, image.device) for n in image.shape[2:])
    rows_Bkjx = (coefficient_Bkji[..., None] * x_4n).sum(dim=3)
    planes_Bkyx = (rows_Bkjx[:, :, :, None] * y_4n[:, :, None]).sum(dim=2)
    field_Bzyx = torch.zeros_like(image[:, 0])
    for plane_Byx, z_n in zip(planes_Bkyx.unbind(1), z_4n, strict=True):
        field_Bzyx.addcmul_(plane_Byx[:, None], z_n[:, None, None])
    return image.mul_(field_Bzyx.exp_()[:, None])


def _legendre(n: int, device: torch.device) -> Tensor:
    """The first four Legendre polynomials at n points from −1 to 1, (4, n)."""
    t = torch.linspace(-1, 1, n, device=device)
    return torch.stack([torch.ones_like(t), t, (3 * t**2 - 1) / 2, (5 * t**3 - 3 * t) / 2])


def noise_(
    image: Tensor,
    keys_B2: Tensor,
    sd_B: Tensor,
    *,
    rician: bool = True,
    stream: str = "noise",
    mask: Tensor | None = None,
) -> Tensor:
    """Add noise of this standard deviation.

    Args:
        rician: Rician (Gudbjartsson & Patz 1995), as magnitude images have it: Gaussian in both channels of the
            complex signal, then the magnitude; else Gaussian.
        stream: name of the random numbers, see `random.uniform`.
        mask: draw inside of it alone, where each voxel's numbers are the same as without. A CPU is faster so; an
            accelerator would wait for the number of voxels.
    """

    def noisy(x: Tensor, sd: Tensor, normal: tuple[Tensor, Tensor]) -> Tensor:
        real, imaginary = normal
        return torch.hypot(x + sd * real, sd * imaginary) if rician else x + sd * real

    if mask is None:
        return image.copy_(noisy(image, per_sample(sd_B), normal_pair(keys_B2, stream, *image.shape[1:])))
    for sample, values in enumerate(image.flatten(1)):
        inside_n = mask[sample].flatten().nonzero().squeeze(1)
        (real,), (imaginary,) = normal_pair(keys_B2[sample, None], stream, len(inside_n), counter=inside_n)
        values[inside_n] = noisy(values[inside_n], sd_B[sample], (real, imaginary))
    return image


def blur_(image: Tensor, mask: Tensor, sigma_voxels_B: Tensor, *, boxed: bool = False) -> Tensor:
    """Gaussian blur, one axis after another, that doesn't let the background bleed into the brain's edge.

    Args:
        sigma_voxels_B: standard deviation of the Gaussian; 0 changes nothing.
        boxed: see `_mix`.
    """
    sigma_B11 = sigma_voxels_B.clamp(min=0.05)[:, None, None]
    matrices = []
    for n in image.shape[2:]:
        voxel_n = torch.arange(n, device=image.device, dtype=image.dtype)
        matrices.append(torch.exp(-0.5 * ((voxel_n[:, None] - voxel_n) / sigma_B11).square()))
    return _mix(image, mask, matrices, boxed)


def low_resolution_(image: Tensor, mask: Tensor, factor_B3: Tensor, *, boxed: bool = False) -> Tensor:
    """As if voxels had been larger: means over slabs this many voxels thick, then linear interpolation between them.

    Args:
        factor_B3: thickness of the slabs along (z, y, x) in voxels; 1 changes nothing.
        boxed: see `_mix`.
    """
    matrices = []
    for axis, n in enumerate(image.shape[2:]):
        thick_B11 = factor_B3[:, axis, None, None]
        j_n = torch.arange(n, device=image.device, dtype=image.dtype)
        k_n1 = j_n[:, None]
        # Slab k reaches from k to k + 1 times its thickness, voxel j from j to j + 1: how much they share.
        shared_Bkj = torch.minimum((k_n1 + 1) * thick_B11, j_n + 1) - torch.maximum(k_n1 * thick_B11, j_n)
        position_Bn1 = (k_n1 + 0.5) / thick_B11 - 0.5  # of each voxel's centre, counted in slabs
        linear_Bnk = 1 - (position_Bn1 - j_n).abs()
        matrices.append(linear_Bnk.clamp(min=0) @ shared_Bkj.clamp(min=0))
    return _mix(image, mask, matrices, boxed)


def _mix(image: Tensor, mask: Tensor, weights_Bnn: list[Tensor], boxed: bool) -> Tensor:
    """Weighted means over the brain's voxels, by a matrix of weights for each axis (z, y, x).

    Matrix products are faster than convolutions here, on a CPU as well, and a matrix may differ from sample to sample.

    Args:
        boxed: sample by sample within the box that holds the brain, without axes along which nothing changes. A CPU
            is faster so; an accelerator would wait for the boxes.
    """
    if not boxed:
        return image.copy_(_weighted_mean(image, mask, weights_Bnn))
    for sample, brain in enumerate(mask[:, 0]):
        (x, y, z), (width, height, depth) = (part.tolist() for part in brain_box(brain.view(torch.uint8)))
        box = (slice(z, z + depth), slice(y, y + height), slice(x, x + width))
        weights = [matrix[sample, None, part, part] for matrix, part in zip(weights_Bnn, box, strict=True)]
        changing = [None if torch.equal(matrix, torch.eye(matrix.shape[1])[None]) else matrix for matrix in weights]
        values = image[sample, None, :, *box]
        values.copy_(_weighted_mean(values, brain[None, None, *box], changing))
    return image


def _weighted_mean(image: Tensor, mask: Tensor, weights_Bnn: list[Tensor] | list[Tensor | None]) -> Tensor:
    weight, shape = mask.to(image.dtype), image.shape
    total = image * weight
    for axis, matrix_Bnn in enumerate(weights_Bnn):
        if matrix_Bnn is None:
            continue
        if axis == 2:
            total, weight = ((part.flatten(1, 3) @ matrix_Bnn.mT).view(shape) for part in (total, weight))
        else:  # as (batch, what is before the axis, the axis, what is after it)
            split = (shape[0], 1 if axis == 0 else shape[2], shape[2 + axis], -1)
            total, weight = ((matrix_Bnn[:, None] @ part.view(split)).view(shape) for part in (total, weight))
    return torch.where(mask, total.div_(weight.clamp_(min=1e-6)), image)


def cutout(mask: Tensor, keys_B2: Tensor, side_fraction_B: Tensor) -> Tensor:
    """Take a box out of the brain mask: its sides are this fraction of the volume's, its centre is uniform."""
    centre_B3 = uniform(keys_B2, "cutout/centre", 3)
    inside = torch.ones_like(mask)
    for axis, size in enumerate(mask.shape[2:]):
        position = (torch.arange(size, device=mask.device) + 0.5) / size
        near = (position[None] - centre_B3[:, axis, None]).abs() < side_fraction_B[:, None] / 2
        inside &= near.view(-1, 1, *[size if a == axis else 1 for a in range(3)])
    return mask & ~inside
