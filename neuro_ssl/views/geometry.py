"""Where a view looks: crop, scaling, flip and rotation as one affine map from the view's coordinates to the volume's.

Legend: B batch, K candidate crops; coordinates are (x, y, z), normalised so that −1 and 1 are the volume's outer
faces (`align_corners=False`); x runs from left to right and is the last axis of the volume. But for what is
said to be for a CPU, nothing reads a value on the host or copies one from it, so that an accelerator never waits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def choose_crop(
    volume_B1zyx: Tensor,
    starts_BK3: Tensor,
    sizes_BK3: Tensor,
    min_brain: float = 0.0,
    *,
    batched: bool = True,
) -> tuple[Tensor, Tensor]:
    """The first candidate crop that shows more than `min_brain` of the brain, else one at the volume's centre.

    Args:
        volume_B1zyx: volumes whose brain is where they are > 0.
        starts_BK3: first voxel of K candidate crops along (x, y, z).
        sizes_BK3: their sizes in voxels.
        min_brain: share of the brain's voxels that a crop must exceed.
        batched: look at all candidates of all samples at once; else at one after another until one will do, which
            spares a CPU most of the work.

    Returns:
        start and size of the chosen crops, (batch, 3) each. The centred one has the size of the first candidate.
    """
    count = _count_batched if batched else _count_until_enough
    count_BK, total_B = count(volume_B1zyx, starts_BK3, sizes_BK3, min_brain)
    enough_BK = count_BK > min_brain * total_B[:, None]
    chosen_B = enough_BK.int().argmax(dim=1)  # the first true one
    batch_B = torch.arange(len(chosen_B), device=chosen_B.device)
    start_B3, size_B3 = starts_BK3[batch_B, chosen_B], sizes_BK3[batch_B, chosen_B]
    found_B1 = enough_BK.any(dim=1, keepdim=True)
    size_B3 = torch.where(found_B1, size_B3, sizes_BK3[:, 0])
    full_3 = per_axis([float(n) for n in volume_B1zyx.shape[:1:-1]], start_B3.device).long()
    return torch.where(found_B1, start_B3, (full_3 - size_B3) // 2), size_B3


def _count_batched(
    volume_B1zyx: Tensor, starts_BK3: Tensor, sizes_BK3: Tensor, min_brain: float
) -> tuple[Tensor, Tensor]:
    """Brain voxels of each crop and of the whole, from a summed-volume table: eight look-ups a crop."""
    table = F.pad((volume_B1zyx[:, 0] > 0).int(), (1, 0, 1, 0, 1, 0))
    table = table.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32).cumsum(3, dtype=torch.int32)
    low_BK3, high_BK3 = starts_BK3, starts_BK3 + sizes_BK3
    batch_B1 = torch.arange(len(table), device=table.device)[:, None]
    count_BK = torch.zeros(starts_BK3.shape[:2], dtype=torch.int32, device=table.device)
    for corner in range(8):
        x, y, z = ((high_BK3 if corner >> axis & 1 else low_BK3)[..., axis] for axis in range(3))
        count_BK += table[batch_B1, z, y, x] * (1 if corner.bit_count() % 2 else -1)
    return count_BK, table[:, -1, -1, -1]


def _count_until_enough(
    volume_B1zyx: Tensor, starts_BK3: Tensor, sizes_BK3: Tensor, min_brain: float
) -> tuple[Tensor, Tensor]:
    """The same up to the first crop that shows enough; those after it count as 0."""
    count_BK = torch.zeros(starts_BK3.shape[:2], dtype=torch.int32)
    total_B = torch.zeros(len(count_BK), dtype=torch.int32)
    for sample, volume in enumerate(volume_B1zyx[:, 0]):
        if min_brain:
            volume = volume > 0
            total_B[sample] = torch.count_nonzero(volume)
        for k in range(starts_BK3.shape[1]):
            crop = cut(volume, starts_BK3[sample, k], sizes_BK3[sample, k])
            count_BK[sample, k] = torch.count_nonzero(crop > 0)
            if count_BK[sample, k] > min_brain * total_B[sample]:
                break
    return count_BK, total_B


def cut(volume_zyx: Tensor, start_3: Tensor, size_3: Tensor) -> Tensor:
    """The box of this first voxel and size, both along (x, y, z), as a view of the volume's memory."""
    (x, y, z), (width, height, depth) = start_3.tolist(), size_3.tolist()
    return volume_zyx[z : z + depth, y : y + height, x : x + width]


def brain_box(volume_zyx: Tensor) -> tuple[Tensor, Tensor]:
    """First voxel and size along (x, y, z) of the smallest box that holds all voxels > 0; of size 0 if none is."""
    plane_yx = volume_zyx.amax(dim=0)
    start, size = [], []
    for profile in (plane_yx.amax(dim=0), plane_yx.amax(dim=1), volume_zyx.flatten(1).amax(dim=1)):
        inside = (profile > 0).nonzero()
        start.append(int(inside[0]) if len(inside) else 0)
        size.append(int(inside[-1]) + 1 - start[-1] if len(inside) else 0)
    return torch.tensor(start), torch.tensor(size)


def per_axis(values: list[float], device: torch.device) -> Tensor:
    """Host numbers as a float32 tensor, without the copy for which an accelerator would stop."""
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values])


def view_matrix(
    start_B3: Tensor, size_B3: Tensor, flip_B: Tensor, rotation_radians_B3: Tensor, shape_zyx: torch.Size
) -> Tensor:
    """The affine map from a view's coordinates to the volume's: crop, then resize, left–right flip, rotation.

    Args:
        start_B3: first voxel of the crop along (x, y, z); need not be whole.
        size_B3: its size in voxels, likewise; it is resized to the volume's own shape.
        flip_B: whether left and right change places.
        rotation_radians_B3: angles about the x, y and z axes, applied in this order, in voxel space.
        shape_zyx: the volume's spatial shape.

    Returns:
        (batch, 3, 4): rotation, scale and flip, then the translation, as `torch.nn.functional.affine_grid` has it.
    """
    half_3 = per_axis([n / 2 for n in shape_zyx[::-1]], size_B3.device)
    angle_B3 = -rotation_radians_B3  # sampling goes backwards, from the view to the volume
    cos_B3, sin_B3 = angle_B3.cos(), angle_B3.sin()
    one, zero = torch.ones_like(cos_B3[:, 0]), torch.zeros_like(cos_B3[:, 0])
    rotation_B33 = None
    for axis in range(3):
        cos, sin = cos_B3[:, axis], sin_B3[:, axis]
        rows = {
            0: [one, zero, zero, zero, cos, -sin, zero, sin, cos],
            1: [cos, zero, sin, zero, one, zero, -sin, zero, cos],
            2: [cos, -sin, zero, sin, cos, zero, zero, zero, one],
        }[axis]
        next_B33 = torch.stack(rows, dim=1).view(-1, 3, 3)
        # Written out: `@` rounds to TF32 or bfloat16 where the user allows that, by which coordinates would be off.
        rotation_B33 = (
            next_B33 if rotation_B33 is None else (rotation_B33[:, :, :, None] * next_B33[:, None, :, :]).sum(dim=2)
        )
    assert rotation_B33 is not None
    rotation_B33 = rotation_B33 * half_3[None, None, :] / half_3[None, :, None]
    scale_B3 = size_B3 / (2 * half_3)
    scale_flip_B3 = torch.stack([torch.where(flip_B, -scale_B3[:, 0], scale_B3[:, 0]), *scale_B3[:, 1:].unbind(1)], 1)
    centre_B3 = (2 * start_B3 + size_B3) / (2 * half_3) - 1
    return torch.cat([scale_flip_B3[:, :, None] * rotation_B33, centre_B3[:, :, None]], dim=2)
