"""How far our view, made by one resampling, is from MONAI's transforms in the paper's order, which take three.

    python experiments/throughput/views_error.py [--grid paper_1mm] [--views 40]

The four real heads in tests/data (2 mm, resampled to the grid), views drawn as in training. The difference is taken
in units of the view's standard deviation, where both ways show brain, two voxels away from either mask's edge; once
as the views are, and once both standardised over the brain that they have in common (`one mask`), which leaves the
interpolation alone: MONAI's nearest voxel is the one before, so that its mask lies up to half a voxel off its image.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from monai.transforms import AdjustContrast, Flip, Resize, Rotate, ShiftIntensity, SpatialCrop
from scipy.ndimage import binary_erosion

from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.resampling import resample_brain
from neuro_ssl.preprocessing.white_matter import white_matter_level
from neuro_ssl.views.intensity import standardise
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025, Parameters, render
from neuro_ssl.views.random import view_keys

HEADS = Path(__file__).parents[2] / "tests" / "data" / "ixi_2mm"


def real_head(file: Path, grid: Grid) -> torch.Tensor:
    """(1, 1, z, y, x): white matter near 1, background 0, the brain's centre of mass in the middle."""
    voxels, affine = read_nifti(file)
    mask = read_nifti(HEADS / "masks" / file.name.replace("T1", "mask"))[0] > 0.5
    centre = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    to_scan = np.eye(4)
    to_scan[:3, 3] = centre - (grid.affine @ [*(np.array(grid.shape[::-1]) - 1) / 2, 1])[:3]
    brain, inside = resample_brain(voxels / white_matter_level(voxels, mask), mask, affine, to_scan, grid)
    return torch.from_numpy(np.where(inside, np.maximum(brain, 1e-3), 0).astype(np.float32))[None, None]


def monai_view(volume: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's transforms one after another, with these parameters; (image, mask)."""
    (start,), (size,), (flip,), (angle,), (offset,), (exponent,) = parameters
    image, mask = volume[0], (volume[0] > 0).float()
    crop = SpatialCrop(roi_start=start.flip(0), roi_end=(start + size).flip(0))
    shape = image.shape[1:]
    image, mask = Resize(shape, mode="trilinear")(crop(image)), Resize(shape, mode="nearest")(crop(mask))
    if flip:
        image, mask = Flip(spatial_axis=2)(image), Flip(spatial_axis=2)(mask)
    if angle:
        # MONAI's default padding_mode, border, is what the paper's code uses.
        image = Rotate((float(angle), 0.0, 0.0), mode="bilinear")(image)
        mask = Rotate((float(angle), 0.0, 0.0), mode="nearest")(mask)
    if offset:
        image = ShiftIntensity(float(offset), safe=False)(image)
    if exponent != 1:
        image = AdjustContrast(float(exponent))(image)
    image, mask = torch.as_tensor(image)[None], torch.as_tensor(mask)[None] > 0.5
    return standardise(image, mask), mask


def errors(volume: torch.Tensor, parameters: Parameters) -> dict[str, np.ndarray]:
    ours = render(volume, parameters, batched=False)
    theirs, mask = monai_view(volume, parameters)
    common = (ours != 0) & mask
    inside = binary_erosion(common[0, 0].numpy(), iterations=2, border_value=1)
    pairs = {"as they are": (ours, theirs), "one mask": (standardise(ours, common), standardise(theirs, common))}
    return {name: (a - b)[0, 0].abs().numpy()[inside] for name, (a, b) in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--grid", default="paper_1mm")
    parser.add_argument("--views", type=int, default=40)
    arguments = parser.parse_args()
    heads = [real_head(file, Grid.named(arguments.grid)) for file in sorted(HEADS.glob("*_T1.nii.gz"))]
    rows: dict[str, list[np.ndarray]] = {}
    for i in range(arguments.views):
        keys = view_keys(0, torch.tensor([0]), torch.tensor([i]), 0)
        volume = heads[i % len(heads)]
        drawn = Kaczmarek2025().draw(volume, keys, batched=False)
        rotation = "with rotation" if drawn.angle_radians_B else "without rotation"
        for name, values in errors(volume, drawn).items():
            rows.setdefault(f"{rotation}, {name}", []).append(values)
    print(f"{arguments.grid}: |difference| in standard deviations of the view")
    for name, values in sorted(rows.items()):
        pooled = np.concatenate(values)
        quantiles = np.quantile(pooled, [0.5, 0.95, 0.999])
        print(
            f"{name:29s} {len(values):3d} views  median {quantiles[0]:.2g}  95 % {quantiles[1]:.2g}  "
            f"99.9 % {quantiles[2]:.2g}  largest {pooled.max():.2g}"
        )


if __name__ == "__main__":
    main()
