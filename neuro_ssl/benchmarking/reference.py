"""The paper's way (Kaczmarek et al. 2025), written anew from its description with nibabel and MONAI's own transforms.

Loading: image and mask from .nii.gz through float64, transposed to (z, y, x), cropped, multiplied. Views, made by the
loading process: random-size crop → resize → left–right flip → axial rotation → intensity shift → gamma, each with the
mask alongside → z-score inside the mask. Training: float32, Adam, cosine similarities by broadcasting (2N)²×D numbers.

Better than the original in two ways, so that it can be timed at all: views that miss the brain are redrawn a bounded
number of times, and every epoch and process draws other ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from neuro_ssl.grid import CROP_SHAPE_ZYX, CROP_START_ZYX

REDRAWS = 8


def load(image: Path, mask: Path, shape_zyx: tuple[int, int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Image × mask, and mask, (z, y, x) float64, cropped as the paper crops.

    Args:
        image: .nii.gz, with the paper's margins around `shape_zyx` (see `material`).
        mask: of the same grid.
        shape_zyx: what is left after the crop, 150×192×192 in the paper.
    """
    window = tuple(slice(start, start + size) for start, size in zip(CROP_START_ZYX, shape_zyx, strict=True))
    voxels, inside = (
        nib.load(path).get_fdata().transpose(2, 1, 0)[window]  # type: ignore[attr-defined]
        for path in (image, mask)
    )
    return voxels * inside, inside


@dataclass
class Views:
    """MONAI's transforms in the paper's order.

    Attributes:
        shape_zyx: of the views.
    """

    shape_zyx: tuple[int, int, int]
    _transforms: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import monai.transforms

        T: Any = monai.transforms  # its names are not exported for type checkers
        keys = ["image", "mask"]
        least = [
            max(1, round(n * size / full))
            for n, size, full in zip((30, 40, 40), self.shape_zyx, CROP_SHAPE_ZYX, strict=True)
        ]
        self._transforms = T.Compose(
            [
                T.EnsureChannelFirstd(keys, channel_dim="no_channel"),
                T.EnsureTyped(keys, dtype=torch.float32, track_meta=False),
                T.RandSpatialCropd(keys, roi_size=least, max_roi_size=self.shape_zyx, random_size=True),
                T.Resized(keys, self.shape_zyx, mode=("trilinear", "nearest")),
                T.RandFlipd(keys, prob=0.5, spatial_axis=2),
                T.RandRotated(keys, range_x=0.785, prob=0.5, mode=("bilinear", "nearest")),
                T.RandShiftIntensityd("image", offsets=0.5, prob=0.8),
                T.RandAdjustContrastd("image", gamma=(0.5, 1.5), prob=0.8),
            ]
        )

    def seed(self, seed: int) -> None:
        """Let the transforms draw other numbers than in other processes."""
        self._transforms.set_random_state(seed)

    def __call__(self, image: npt.NDArray[Any], mask: npt.NDArray[Any]) -> Tensor:
        """One view, (1, z, y, x)."""
        for _ in range(REDRAWS):
            view = self._transforms({"image": image, "mask": mask})
            if view["mask"].any():
                break
        inside = view["mask"] > 0
        brain = view["image"][inside]
        standardised = (view["image"] - brain.mean()) / torch.sqrt(brain.var(correction=0) + 1e-12)
        return torch.where(inside, standardised, 0)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each scan, made by the loading process.

    Args:
        images: .nii.gz files.
        masks: in the same order.
        shape_zyx: of the views.
    """

    def __init__(self, images: Sequence[Path], masks: Sequence[Path], shape_zyx: tuple[int, int, int]) -> None:
        self.images, self.masks, self.views = images, masks, Views(shape_zyx)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        item = load(self.images[index], self.masks[index], self.views.shape_zyx)
        return self.views(*item), self.views(*item)


def seed_worker(worker: int) -> None:
    """Each loading process draws views of its own."""
    info = torch.utils.data.get_worker_info()
    assert info is not None
    info.dataset.views.seed(int(np.random.SeedSequence(info.seed).generate_state(1)[0]))  # type: ignore[attr-defined]


def nt_xent(first_nD: Tensor, second_nD: Tensor, temperature: float) -> Tensor:
    """NT-Xent over one process's pairs; the similarities are taken between all rows by broadcasting."""
    rows = torch.cat([first_nD, second_nD])
    n = len(first_nD)
    similarity = F.cosine_similarity(rows[:, None], rows[None], dim=2) / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=rows.device), -torch.inf)
    return F.cross_entropy(similarity, torch.arange(2 * n, device=rows.device).roll(n))
