"""Crop, resize, flip and rotation, composed into one resampling of the volume.

Legend: B batch, K candidate crops; coordinates are (x, y, z), normalised so that −1 and 1 are the volume's outer
faces (`align_corners=False`); x runs from left to right and is the last axis of the volume.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def choose_crop(
    volume_B1zyx: Tensor, starts_BK3: Tensor, sizes_BK3: Tensor, min_brain: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The first candidate crop that shows more than `min_brain` of the brain, else one at the volume's centre.

    Args:
        volume_B1zyx: volumes whose brain is where they are > 0.
        starts_BK3: first voxel of K candidate crops along (x, y, z).
        sizes_BK3: their sizes in voxels.
        min_brain: share of the brain's voxels that a crop must exceed.

    Returns:
        start and size of the chosen crops, (batch, 3) each. The centred one has the size of the first candidate.
    """
    full_3 = torch.tensor(volume_B1zyx.shape[:1:-1], device=volume_B1zyx.device)
    # Summed-volume table: the voxels of any box are counted by eight look-ups, without leaving the device.
    table = F.pad((volume_B1zyx[:, 0] > 0).int(), (1, 0, 1, 0, 1, 0))
    table = table.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32).cumsum(3, dtype=torch.int32)
    low_BK3, high_BK3 = starts_BK3, starts_BK3 + sizes_BK3
    batch_B1 = torch.arange(len(table), device=table.device)[:, None]
    count_BK = torch.zeros(starts_BK3.shape[:2], dtype=torch.int32, device=table.device)
    for corner in range(8):
        x, y, z = ((high_BK3 if corner >> axis & 1 else low_BK3)[..., axis] for axis in range(3))
        count_BK += table[batch_B1, z, y, x] * (1 if corner.bit_count() % 2 else -1)
    enough_BK = count_BK > min_brain * table[:, -1, -1, -1, None]
    chosen_B = enough_BK.int().argmax(dim=1)  # the first true one
    start_B3, size_B3 = starts_BK3[batch_B1[:, 0], chosen_B], sizes_BK3[batch_B1[:, 0], chosen_B]
    found_B1 = enough_BK.any(dim=1, keepdim=True)
    size_B3 = torch.where(found_B1, size_B3, sizes_BK3[:, 0])
    return torch.where(found_B1, start_B3, (full_3 - size_B3) // 2), size_B3


def crop_in_place(volume_B1zyx: Tensor, start_B3: Tensor, size_B3: Tensor) -> Tensor:
    """Background outside of the crop, what is inside stays where and as large as it is."""
    for axis, n_voxels in enumerate(volume_B1zyx.shape[:1:-1]):  # x, y, z
        voxel_1n = torch.arange(n_voxels, device=volume_B1zyx.device)[None]
        start_B1 = start_B3[:, axis, None]
        inside_Bn = (voxel_1n >= start_B1) & (voxel_1n < start_B1 + size_B3[:, axis, None])
        shape = [1, 1, 1]
        shape[2 - axis] = n_voxels
        volume_B1zyx = volume_B1zyx * inside_Bn.view(-1, 1, *shape)
    return volume_B1zyx


def view_matrix(
    start_B3: Tensor, size_B3: Tensor, flip_B: Tensor, rotation_radians_B3: Tensor, shape_zyx: torch.Size
) -> Tensor:
    """The affine map from a view's coordinates to the volume's: crop, then resize, left–right flip, rotation.

    Args:
        start_B3: first voxel of the crop along (x, y, z).
        size_B3: its size in voxels; it is resized to the volume's own shape.
        flip_B: whether left and right change places.
        rotation_radians_B3: angles about the x, y and z axes, applied in this order, in voxel space.
        shape_zyx: the volume's spatial shape.

    Returns:
        (batch, 3, 4) for `torch.nn.functional.affine_grid`.
    """
    half_3 = torch.tensor(shape_zyx[::-1], device=size_B3.device, dtype=torch.float32) / 2
    angle_B3 = -rotation_radians_B3  # sampling goes backwards, from the view to the volume
    rotation_B33 = torch.eye(3, device=size_B3.device).expand(len(size_B3), 3, 3)
    for axis in range(3):
        cos, sin = angle_B3[:, axis].cos(), angle_B3[:, axis].sin()
        one, zero = torch.ones_like(cos), torch.zeros_like(cos)
        rows = {
            0: [one, zero, zero, zero, cos, -sin, zero, sin, cos],
            1: [cos, zero, sin, zero, one, zero, -sin, zero, cos],
            2: [cos, -sin, zero, sin, cos, zero, zero, zero, one],
        }[axis]
        rotation_B33 = rotation_B33 @ torch.stack(rows, dim=1).view(-1, 3, 3)
    rotation_B33 = rotation_B33 * half_3[None, None, :] / half_3[None, :, None]
    scale_B3 = size_B3 / (2 * half_3)
    scale_flip_B3 = torch.stack([torch.where(flip_B, -scale_B3[:, 0], scale_B3[:, 0]), *scale_B3[:, 1:].unbind(1)], 1)
    centre_B3 = (2 * start_B3 + size_B3) / (2 * half_3) - 1
    return torch.cat([scale_flip_B3[:, :, None] * rotation_B33, centre_B3[:, :, None]], dim=2)


def resample(volume_B1zyx: Tensor, matrix_B34: Tensor) -> tuple[Tensor, Tensor]:
    """Sample the volume once: intensities trilinearly, the brain (where it is > 0) by the nearest voxel.

    Returns:
        image and mask (boolean), both (batch, 1, z, y, x) of the input's shape; outside the mask the image still
        holds the interpolated edge, for the caller to remove.
    """
    grid = F.affine_grid(matrix_B34, list(volume_B1zyx.shape), align_corners=False)
    image = F.grid_sample(volume_B1zyx, grid, mode="bilinear", align_corners=False)
    brain = F.grid_sample((volume_B1zyx > 0).to(volume_B1zyx.dtype), grid, mode="nearest", align_corners=False)
    return image, brain > 0.5
