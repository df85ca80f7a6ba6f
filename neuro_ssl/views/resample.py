"""One resampling a view: intensities trilinearly, the brain by the nearest voxel, exactly 0 outside of it.

Two ways to the same view. `resample_batched` samples all volumes of a batch at once, for accelerators.
`resample_each` takes one sample after another and leaves out what a CPU would spend most time on: voxels outside of
the crop are never read, a rotation in the axial plane alone is sampled in two dimensions with the slices as channels
and then interpolated along z, and an oblique one only where the brain comes to lie. Images agree to 1e-5 of the
intensities; masks but for voxels halfway between two others up to rounding.

Legend: B batch; coordinates are (x, y, z) as in `geometry`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro_ssl.views.geometry import brain_box, cut, per_axis

# Where a view's voxel lies exactly between two of the volume's (often: crop sizes are whole numbers), rounding
# errors would decide which is the nearest. Moved by this many voxels, the upper one is, on every device.
TIE_VOXELS = 1e-3
SLAB = 12  # slices that a CPU samples at a time, so that what it computes stays in its cache


def resample(
    volume_B1zyx: Tensor, start_B3: Tensor, size_B3: Tensor, matrix_B34: Tensor, *, border: bool, batched: bool
) -> tuple[Tensor, Tensor]:
    """Sample a crop of each volume.

    Args:
        volume_B1zyx: intensities, brain > 0.
        start_B3: first voxel of the crop along (x, y, z). What lies outside of the crop is never seen.
        size_B3: its size in voxels.
        matrix_B34: from the view's coordinates to the volume's, see `geometry.view_matrix`.
        border: continue the crop's outermost voxels beyond it, as MONAI's resampling does; else background.
        batched: the way to do it, see above.

    Returns:
        image (float32) and brain mask (boolean), both (batch, 1, z, y, x) of the input's shape; the image is 0
        outside the mask.
    """
    way = resample_batched if batched else resample_each
    return way(volume_B1zyx, start_B3, size_B3, matrix_B34, border)


def resample_batched(
    volume_B1zyx: Tensor, start_B3: Tensor, size_B3: Tensor, matrix_B34: Tensor, border: bool
) -> tuple[Tensor, Tensor]:
    """See `resample`; one `grid_sample` for the whole batch, without a look at any value."""
    volume_B1zyx = volume_B1zyx.float()
    full_3 = per_axis([float(n) for n in volume_B1zyx.shape[:1:-1]], volume_B1zyx.device)
    grid = sampling_grid(matrix_B34, *(voxel_centres(n, full_3.device) for n in volume_B1zyx.shape[:1:-1]))
    if border:
        first_B3, last_B3 = (2 * start_B3 + 1) / full_3 - 1, (2 * (start_B3 + size_B3) - 1) / full_3 - 1
        grid = grid.clamp_(first_B3[:, None, None, None], last_B3[:, None, None, None])
    else:
        volume_B1zyx = crop_in_place(volume_B1zyx, start_B3, size_B3)
    image = F.grid_sample(volume_B1zyx, grid, mode="bilinear", align_corners=False)
    grid += 2 * TIE_VOXELS / full_3
    mask = F.grid_sample(volume_B1zyx, grid, mode="nearest", align_corners=False) > 0
    return torch.where(mask, image, 0), mask


def resample_each(
    volume_B1zyx: Tensor, start_B3: Tensor, size_B3: Tensor, matrix_B34: Tensor, border: bool
) -> tuple[Tensor, Tensor]:
    """See `resample`; one sample after another, each in the cheapest way that is exact."""
    image, mask = torch.zeros(volume_B1zyx.shape), torch.zeros(volume_B1zyx.shape, dtype=torch.bool)
    full_3 = torch.tensor(volume_B1zyx.shape[:1:-1])
    for sample, volume in enumerate(volume_B1zyx[:, 0]):
        source, start_3 = cut(volume, start_B3[sample], size_B3[sample]).float(), start_B3[sample]
        if not border:  # around the brain alone; one layer of background, continued, is background everywhere
            brain_start_3, brain_size_3 = brain_box(source)
            source = F.pad(cut(source, brain_start_3, brain_size_3), (1,) * 6)
            start_3 = start_3 + brain_start_3 - 1
        if not source.any():
            continue
        # From the volume's normalised coordinates to those of the box, in float64.
        ratio_3 = full_3.double() / torch.tensor(source.shape[::-1])
        matrix_34 = matrix_B34[sample].double() * ratio_3[:, None]
        matrix_34[:, 3] += (full_3 - 2 * start_3) / torch.tensor(source.shape[::-1]) - 1
        axial = not matrix_34[2, :2].any() and not matrix_34[:2, 2].any()
        sample_box = _sample_axial if axial else _sample_oblique
        sample_box(source, matrix_34, image[sample, 0], mask[sample, 0], border)
    return image, mask


def _sample_axial(source: Tensor, matrix_34: Tensor, image: Tensor, mask: Tensor, border: bool) -> None:
    """Rotations about z alone: each axial slice in two dimensions, all at once, then between slices."""
    depth, height, width = image.shape
    n_slices = len(source)
    plane = sampling_grid(matrix_34.float()[None], voxel_centres(width), voxel_centres(height), torch.zeros(1))
    plane = plane[:, 0, :, :, :2].contiguous()
    plane_tie = plane + 2 * TIE_VOXELS / torch.tensor([source.shape[2], source.shape[1]])
    position = matrix_34[2, 2] * voxel_centres(depth) + matrix_34[2, 3]
    position = (((position + 1) * n_slices - 1) / 2).clamp(0, n_slices - 1)
    where = list(enumerate(zip(position.tolist(), (position + TIE_VOXELS).round().long().tolist(), strict=True)))
    for first in range(0, n_slices, SLAB):
        slab = source[None, first : first + SLAB + 1]
        slices = F.grid_sample(slab, plane, mode="bilinear", padding_mode="border", align_corners=False)[0]
        brain = F.grid_sample(slab, plane_tie, mode="nearest", padding_mode="border", align_corners=False)[0] > 0
        for k, (place, nearest) in where:
            low = int(place) - first
            if 0 <= low < SLAB:
                torch.lerp(slices[low], slices[min(low + 1, len(slices) - 1)], place - int(place), out=image[k])
                mask[k] = brain[min(nearest - first, len(brain) - 1)]
    image *= mask


def _sample_oblique(source: Tensor, matrix_34: Tensor, image: Tensor, mask: Tensor, border: bool) -> None:
    """Any rotation: find the brain's voxels first, then interpolate these alone."""
    box = [(0, n) for n in image.shape[::-1]]  # along x, y, z: where in the view the source comes to lie
    if not border:
        corners_38 = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.double)] * 3).T
        seen_38 = torch.linalg.solve(matrix_34[:, :3], corners_38 - matrix_34[:, 3:])
        for axis, (_, n) in enumerate(box):
            index = ((seen_38[axis] + 1) * n - 1) / 2
            box[axis] = (max(int(index.min().floor()), 0), min(int(index.max().ceil()) + 1, n))
    (x, y), (first, last) = (slice(low, max(low, high)) for low, high in box[:2]), box[2]
    centres_xyz = [voxel_centres(n) for n in image.shape[::-1]]
    matrix_134, volume = matrix_34.float()[None], source[None, None]
    tie_3 = 2 * TIE_VOXELS / torch.tensor(source.shape[::-1])
    for low in range(first, last, SLAB):
        z = slice(low, min(low + SLAB, last))
        grid = sampling_grid(matrix_134, *(centres[part] for centres, part in zip(centres_xyz, (x, y, z), strict=True)))
        grid += tie_3
        brain = F.grid_sample(volume, grid, mode="nearest", padding_mode="border", align_corners=False)[0, 0] > 0
        inside = brain.view(-1).nonzero().squeeze(1)
        points = (grid.view(-1, 3).index_select(0, inside) - tie_3).view(1, 1, 1, -1, 3)
        values = F.grid_sample(volume, points, mode="bilinear", padding_mode="border", align_corners=False)
        image[z, y, x] = torch.zeros(brain.numel()).index_copy_(0, inside, values.view(-1)).view(brain.shape)
        mask[z, y, x] = brain


def sampling_grid(matrix_B34: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Where to sample for a view's voxels at these normalised coordinates, (batch, z, y, x, 3).

    What `torch.nn.functional.affine_grid` gives, in a quarter of its time on a CPU, and in float32 whatever matrix
    products are rounded to.
    """
    grid = matrix_B34.new_empty(len(matrix_B34), len(z), len(y), len(x), 3)
    for axis in range(3):
        x_B, y_B, z_B, offset_B = (column[:, None] for column in matrix_B34[:, axis].unbind(dim=1))
        plane_Byx = (y_B * y)[:, :, None] + (x_B * x)[:, None, :]
        torch.add(plane_Byx[:, None], (z_B * z + offset_B)[:, :, None, None], out=grid[..., axis])
    return grid


def voxel_centres(n: int, device: torch.device | None = None) -> Tensor:
    """Normalised coordinates of the centres of n voxels."""
    return (2 * torch.arange(n, device=device, dtype=torch.float32) + 1) / n - 1


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
