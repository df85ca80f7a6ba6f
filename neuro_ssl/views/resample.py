"""One resampling a view: intensities trilinearly, the brain by the nearest voxel, exactly 0 outside of it.

Two ways to the same view. `resample_batched` samples all volumes of a batch at once, for accelerators.
`resample_each` takes one sample after another and leaves out what a CPU would spend most time on: voxels outside of
the crop are never read, a rotation in the axial plane alone is sampled in two dimensions with the slices as channels
and then interpolated along z, and an oblique one only where the brain comes to lie. Both give the same up to the
rounding of coordinates in float32.

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
        if not border:  # around the brain alone; a layer of background, continued, is background everywhere
            brain_start_3, brain_size_3 = brain_box(source)
            source = F.pad(cut(source, brain_start_3, brain_size_3), (1,) * 6)
            start_3 = start_3 + brain_start_3 - 1
        if not source.any():
            continue
        # From the volume's normalised coordinates to those of the box, in float64.
        ratio_3 = full_3.double() / torch.tensor(source.shape[::-1])
        matrix_34 = matrix_B34[sample].double() * ratio_3[:, None]
        matrix_34[:, 3] += (full_3 - 2 * start_3) / torch.tensor(source.shape[::-1]) - 1
        if not matrix_34[2, :2].any() and not matrix_34[:2, 2].any():
            _sample_axial(source, matrix_34, image[sample, 0], mask[sample, 0])
        elif not border:
            _sample_oblique(source, matrix_34, image[sample, 0], mask[sample, 0])
        else:  # no family of views does this
            one = slice(sample, sample + 1)
            arguments = volume_B1zyx[one], start_B3[one], size_B3[one], matrix_B34[one], border
            image[one], mask[one] = resample_batched(*arguments)
    return image, mask


def _sample_axial(source: Tensor, matrix_34: Tensor, image: Tensor, mask: Tensor) -> None:
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
                image[k].masked_fill_(~mask[k], 0)


def _sample_oblique(source: Tensor, matrix_34: Tensor, image: Tensor, mask: Tensor) -> None:
    """Any rotation of a source with background all around: find the brain's voxels, then interpolate these alone.

    Written out, since in three dimensions a CPU's `grid_sample` takes one voxel at a time.
    """
    size_xyz = source.shape[::-1]
    strides = (1, size_xyz[0], size_xyz[0] * size_xyz[1])
    values, brain = source.flatten(), (source > 0).flatten()
    to_voxel_34 = matrix_34 * torch.tensor(size_xyz)[:, None] / 2  # from the view's coordinates to the source's voxels
    to_voxel_34[:, 3] += (torch.tensor(size_xyz) - 1) / 2
    x, y, z_all = _seen_in(image.shape, matrix_34)
    x_centres, y_centres, z_centres = (voxel_centres(n) for n in image.shape[::-1])
    for first in range(z_all.start, z_all.stop, SLAB):
        z = slice(first, min(first + SLAB, z_all.stop))
        places = []
        for to_x, to_y, to_z, offset in to_voxel_34.tolist():
            plane = (to_y * y_centres[y])[:, None] + to_x * x_centres[x]
            places.append(plane + (to_z * z_centres[z] + offset)[:, None, None])
        nearest = torch.zeros(places[0].shape, dtype=torch.int32)
        for place, n, stride in zip(places, size_xyz, strides, strict=True):
            nearest.add_((place + TIE_VOXELS).round_().clamp_(0, n - 1).int(), alpha=stride)
        is_brain = brain.index_select(0, nearest.view(-1))
        inside = is_brain.nonzero().squeeze(1)
        interpolated = _interpolate(values, [place.view(-1).index_select(0, inside) for place in places], strides)
        image[z, y, x] = torch.zeros(len(is_brain)).index_copy_(0, inside, interpolated).view(nearest.shape)
        mask[z, y, x] = is_brain.view(nearest.shape)


def _interpolate(values: Tensor, places: list[Tensor], strides: tuple[int, int, int]) -> Tensor:
    """Trilinear interpolation at these places (x, y, z), in voxels, of which none is in the outermost layer."""
    low = [place.floor() for place in places]
    x, y, z = (place - below for place, below in zip(places, low, strict=True))
    corner = torch.zeros(len(x), dtype=torch.int32)
    for below, stride in zip(low, strides, strict=True):
        corner.add_(below.int(), alpha=stride)
    _, row, plane = strides

    def along_x(offset: int) -> Tensor:
        return values.index_select(0, corner + offset).lerp_(values.index_select(0, corner + (offset + 1)), x)

    def along_y(offset: int) -> Tensor:
        return along_x(offset).lerp_(along_x(offset + row), y)

    return along_y(0).lerp_(along_y(plane), z)


def _seen_in(shape_zyx: torch.Size, matrix_34: Tensor) -> list[slice]:
    """Where in a view of this shape the source comes to lie, along (x, y, z)."""
    corners_38 = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.double)] * 3).T
    seen_38 = torch.linalg.solve(matrix_34[:, :3], corners_38 - matrix_34[:, 3:])
    box = []
    for n, seen in zip(shape_zyx[::-1], seen_38, strict=True):
        index = ((seen + 1) * n - 1) / 2
        first = min(max(int(index.min().floor()), 0), n)
        box.append(slice(first, max(first, min(int(index.max().ceil()) + 1, n))))
    return box


def sampling_grid(matrix_B34: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Where to sample for a view's voxels at these normalised coordinates, (batch, z, y, x, 3).

    What `torch.nn.functional.affine_grid` gives, without its matrix product: faster on a CPU, and in float32 whatever
    matrix products are rounded to.
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
