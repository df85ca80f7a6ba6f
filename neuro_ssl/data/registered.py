"""Training straight from NIfTI images that are registered already: the paper's CSVs, without a store.

Their images lie on the ICBM 152 2009c grid at 1 mm (193×229×193), as TurboPrep's `-r r` leaves them, each with its
brain mask. What the encoder sees without views is the paper's array (Kaczmarek et al. 2025): transposed to (z, y, x),
cropped `[10:160, 19:211, 1:]`, z-scored inside the mask, 0 outside. Here too the z-score follows the views; what they
receive is the image, scaled and shifted to be > 0 inside the mask, in float32. Neither shows in the z-score, nor does
it change the paper's gamma, which works on the view's own range (but for the one voxel at the brain's edge where an
interpolation mixes in the background, which is then darker than the brain, and not somewhere in its middle as the 0 of
a WhiteStripe image is).

Two .nii.gz are decoded each time a scan is drawn, 0.35 s on one core, where a store's volume takes 8 ms. The first
start checks all images by their headers (2 ms each) and reads all masks (20 ms each), in 8 threads; later ones look
only at sizes and times of modification.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.data.manifest import SPLITS, add_scan_ids, validate
from neuro_ssl.data.registered_checks import check_registered, content_hashes, cropped
from neuro_ssl.data.splits import split_scans, write_splits
from neuro_ssl.data.store import manifest_hash
from neuro_ssl.data.table import TableDataset
from neuro_ssl.data.volumes import Volumes, lifted, summary_of
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.nifti import read_nifti

WHITE_MATTER_PERCENTILE = 80  # of a T1w brain with its CSF, the darker half of white matter lies below: near its mode
SETTINGS = {
    "version": 1,  # raise it whenever the same image gives other voxels
    "brain_extraction": "mask",
    "registration": "as given, on the ICBM 152 2009c grid",
    "bias_correction": "as given",
    "intensity": "as given; 80th percentile of the brain = 1, shifted to be > 0",
}


@dataclass(frozen=True, kw_only=True)
class RegisteredDataset(TableDataset):
    """Tables of images that lie on the ICBM 152 2009c grid at 1 mm, with brain masks; training reads them as they are.

    Args:
        cohort: see `Dataset`, as root, grid, stores_dir and transform.
        table: relative to root; `{split}` stands for train, val and test, one table each, as in the paper. Of one
            single table, a column `split` says it, or the subjects are split here.
        columns: see `TableDataset`, as values and image_pattern.
        splits: shares of the subjects, for one single table.
        stratify: columns to balance over the splits, where the table has them.
        split_seed: of the split.
    """

    table: str | None = "{split}.csv"
    splits: Mapping[str, float] = field(default_factory=lambda: {"train": 0.6, "val": 0.2, "test": 0.2})
    stratify: list[str] = field(default_factory=lambda: ["sex", "age_years"])
    split_seed: int = 0

    def scans(self) -> pd.DataFrame:
        """Read the table, or the three.

        Raises:
            InputError: as `TableDataset.scans`; or an image that is listed twice.
        """
        if self.table is None or "{split}" not in self.table:
            return super().scans()
        tables = []
        for split in SPLITS:
            one = replace(self, table=self.table.replace("{split}", split))
            if not (self.root_dir / str(one.table)).is_file():
                raise InputError(
                    f"dataset.table={self.table}: no file {self.root_dir / str(one.table)}; with one single table, "
                    "dataset.table=NAME.csv, the subjects are split here, or by its column split"
                )
            tables.append(TableDataset.scans(one).assign(split=split))
        frame = pd.concat(tables, ignore_index=True)
        repeated = frame[frame["image_path"].duplicated(keep=False)].sort_values("image_path")
        if len(repeated):
            first, second = repeated["split"].iloc[:2]
            raise InputError(
                f"{self.root_dir / self.table}: {repeated['image_path'].iloc[0]} is in {first} and in {second}; "
                "keep one of the rows"
            )
        return validate(frame, str(self.root_dir / self.table))

    def open(self, grid: str) -> Volumes:
        """The images, split and checked; or, on another grid than theirs, the cohort's store.

        Args:
            grid: `paper_1mm`, where the images are read as they are; or the grid of a store that preprocessing made.

        Raises:
            InputError: an image without a mask, a file that is not there, damaged or not on the 09c grid, a mask
                without brain, one image under two names, or a subject in two splits; no store of another grid.
        """
        own = Grid.named("paper_1mm")
        if grid != own.name:
            return super().open(grid)
        table = self.root_dir / str(self.table)
        scans = add_scan_ids(self.scans())
        if "mask_path" not in scans or scans["mask_path"].isna().any():
            without = scans if "mask_path" not in scans else scans[scans["mask_path"].isna()]
            raise InputError(
                f"{table}: {len(without)} of {len(scans)} images have no mask_path, first "
                f"{without['image_path'].iloc[0]}; name the column by dataset.columns='{{mask_path: …}}'"
            )
        splits_file = self.store_dir / "splits.csv"
        try:
            scans, _ = split_scans(scans, splits_file, self.splits, self.stratify, self.split_seed)
        except InputError as error:
            raise InputError(f"{table}: {error}") from error
        check_registered(scans, table, self.store_dir / "registered_checks.parquet")
        scans = scans.assign(volume=scans["image_path"], image_hash=content_hashes(scans, table)).sort_values("scan_id")
        if "{split}" not in str(self.table):
            write_splits(scans, splits_file)
        return RegisteredImages(table, self.name, own, scans.reset_index(drop=True))


@dataclass(frozen=True, eq=False)
class RegisteredImages:
    """Registered images and their masks, read as training needs them (see `Volumes`).

    Attributes:
        path: of their table.
        cohort: its name.
        grid: `paper_1mm`.
        manifest: as a store's; `volume` is the image's path.
    """

    path: Path
    cohort: str
    grid: Grid
    manifest: pd.DataFrame

    @property
    def simulated(self) -> bool:
        """Tables describe acquired scans."""
        return False

    @property
    def identity(self) -> dict[str, str]:
        """What tells these images from any others, wherever they lie."""
        settings = hashlib.sha256(json.dumps(SETTINGS, sort_keys=True).encode()).hexdigest()[:8]
        content = manifest_hash(self.manifest.drop(columns="volume"))
        return {"cohort": self.cohort, "preprocessing_hash": settings, "manifest_hash": content}

    @property
    def summary(self) -> dict[str, Any]:
        """What a run records of its data."""
        return summary_of(self, SETTINGS)

    @functools.cached_property
    def _masks(self) -> dict[str, str]:
        return dict(zip(self.manifest["volume"], self.manifest["mask_path"], strict=True))

    def read(self, volume: str) -> npt.NDArray[np.float32]:
        """Read one image, cropped and masked.

        Args:
            volume: as in the manifest's column of that name.

        Returns:
            (z, y, x) of `grid.shape`, brain > 0 with white matter near 1, everything else exactly 0.

        Raises:
            InputError: an unreadable file, or an image without contrast in its brain.
        """
        image, mask = (cropped(read_nifti(path)[0]) for path in (volume, self._masks[volume]))
        inside = mask > 0
        brain = image[inside].astype(np.float64)
        scale = np.percentile(brain, WHITE_MATTER_PERCENTILE) - min(brain.min(), 0)
        if brain.min() == brain.max() or scale <= 0:
            raise InputError(
                f"{volume}: no contrast inside its mask {self._masks[volume]}; export it again, or leave it out"
            )
        result = np.zeros(self.grid.shape, np.float32)
        result[inside] = lifted(brain / scale)
        return result
