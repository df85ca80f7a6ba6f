"""What the benchmark reads: one head, many times over, as a volume store and as the paper's .nii.gz files.

The copies differ in brightness alone, so that all cost the same to read. The paper's files have its full template grid
(193×229×193 at 1 mm; margins of the same number of voxels at other spacings), float32 and stripped of the skull, which
compresses better, and so decodes faster, than a whole head would.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.grid import CROP_START_ZYX, Grid
from neuro_ssl.preprocessing.pipeline import Preprocessing

MARGIN_AFTER_ZYX = (33, 18, 0)  # 193×229×193 less the crop's start and 150×192×192


@dataclass(frozen=True)
class Material:
    """The same scans for both sides.

    Attributes:
        store: for ours.
        images, masks: for the reference.
    """

    store: VolumeStore
    images: list[Path]
    masks: list[Path]

    @classmethod
    def make(cls, folder: Path, image: Path, mask: Path | None, grid: Grid, n_scans: int) -> "Material":
        """Preprocess a head and write its copies.

        Args:
            folder: for the files.
            image: a NIfTI file of a head.
            mask: its brain mask; without one, deepbet makes it.
            grid: of the volumes.
            n_scans: how many copies.

        Raises:
            InputError: a head that cannot be used.
        """
        # How well it is aligned changes no time.
        preprocessing = Preprocessing(grid, "mask" if mask else "deepbet", "centre", bias_correction=False)
        brain = preprocessing(str(image), str(mask) if mask else None)
        folder.mkdir(parents=True, exist_ok=True)
        writer = StoreWriter(folder / "stores" / "benchmark", grid, preprocessing.settings)
        margins = list(zip(CROP_START_ZYX, MARGIN_AFTER_ZYX, strict=True))
        images: list[Path] = []
        masks: list[Path] = []
        for i in range(n_scans):
            volume = (brain.volume * np.float16(1 + i / 1000)).astype(np.float16)
            padded = np.pad(volume, margins).transpose(2, 1, 0)
            for paths, name, voxels in (
                (images, "image", padded.astype(np.float32)),
                (masks, "mask", (padded > 0).astype(np.uint8)),
            ):
                paths.append(folder / f"{name}{i}.nii.gz")
                nib.save(nib.Nifti1Image(voxels, grid.affine), paths[-1])  # type: ignore[no-untyped-call]
            writer.write(f"sub-{i}", volume, brain.measurements, brain.to_scan, [str(images[-1])])
        table = pd.DataFrame(
            {
                "subject_id": [f"benchmark/sub-{i}" for i in range(n_scans)],
                "image_path": [str(path) for path in images],
                "split": ["train"] * (n_scans - 1) + ["val"],
            }
        )
        scans = add_scan_ids(validate(table, "benchmark"))
        return cls(writer.finish(scans, "benchmark", simulated=False), images, masks)
