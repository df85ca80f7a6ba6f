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
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from neuro_ssl.data.checks import find_problems, listed
from neuro_ssl.data.manifest import SPLITS, add_scan_ids, validate
from neuro_ssl.data.splits import split_scans, write_splits
from neuro_ssl.data.store import manifest_hash, split_hash
from neuro_ssl.data.table import TableDataset
from neuro_ssl.data.volumes import Volumes, canonical_grid, lifted
from neuro_ssl.errors import InputError
from neuro_ssl.grid import CROP_SHAPE_ZYX, CROP_START_ZYX, TEMPLATE_ORIGIN_MM, Grid
from neuro_ssl.preprocessing.nifti import read_nifti

TEMPLATE_SHAPE = (193, 229, 193)  # (x, y, z) of the 09c grid, 1 mm, RAS
WHITE_MATTER_PERCENTILE = 80  # of a T1w brain with its CSF, the darker half of white matter lies below: near its mode
TOLERANCE_MM = 0.01
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
        scans = scans.assign(volume=scans["image_path"], image_hash=_hashes(scans, table)).sort_values("scan_id")
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
        subjects = self.manifest.groupby("split")["subject_id"]
        return {
            **self.identity,
            "split_hash": split_hash(self.manifest),
            "simulated": self.simulated,
            "grid": self.grid.name,
            "preprocessing": dict(SETTINGS),
            "store": str(self.path),
            "n_scans": subjects.size().to_dict(),
            "n_subjects": subjects.nunique().to_dict(),
        }

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
        image, mask = (_cropped(read_nifti(path)[0]) for path in (volume, self._masks[volume]))
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


def check_registered(scans: pd.DataFrame, table: Path, kept: Path) -> None:
    """Check all images by their headers, and all masks, before hours are spent on them.

    Args:
        scans: a manifest with `mask_path`.
        table: where they are listed, for the message.
        kept: where to keep what passed, for the next start.

    Raises:
        InputError: names the first bad files and the remedy.
    """
    masks = set(scans["mask_path"])

    def problem(file: str) -> str | None:
        try:
            image = nib.load(file)
            return _header_problem(image) or (_mask_problem(image) if file in masks else _image_problem(file, image))
        except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError) as error:
            return f"cannot be read, truncated or not NIfTI ({error})"
        except InputError as error:
            return str(error).removeprefix(f"{file}: ")

    files = [*scans["image_path"], *sorted(masks)]
    problems = find_problems(Path(), files, kept, problem, chunk=8)
    if problems:
        raise InputError(
            f"{table}: {len(problems)} of {len(files)} files cannot be used ({listed(problems)}); mend them or take "
            "their rows out; images that are not registered: python -m neuro_ssl.preprocess, and dataset=csv"
        )


def _header_problem(image: Any) -> str | None:
    if not isinstance(image, nib.Nifti1Pair):  # NIfTI-2 is a subclass
        return f"not a NIfTI image but {type(image).__name__}"
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        return "its header states no orientation (sform_code and qform_code are 0)"
    shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size != 1)
    if len(shape) != 3:
        return f"shape {image.shape} instead of a 3D image"
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-6:
        return "its affine is singular"
    canonical, affine = canonical_grid(shape, image.affine)
    expected = np.eye(4)
    expected[:3, 3] = TEMPLATE_ORIGIN_MM
    if canonical != TEMPLATE_SHAPE or not np.allclose(affine, expected, atol=TOLERANCE_MM):
        size = "×".join(map(str, canonical))
        spacing = "×".join(f"{step:g}" for step in np.linalg.norm(affine[:3, :3], axis=0).round(3))
        return (
            f"not on the ICBM 152 2009c grid: {size} voxels of {spacing} mm from {affine[:3, 3].round(2).tolist()} "
            f"instead of 193×229×193 of 1 mm from {list(TEMPLATE_ORIGIN_MM)}"
            f"{'' if np.allclose(affine[:3, :3], np.diag(np.diag(affine)[:3]), atol=TOLERANCE_MM) else ', and rotated'}"
        )
    return None


def _image_problem(file: str, image: Any) -> str | None:
    stored = image.dataobj
    n_bytes = stored.offset + stored.dtype.itemsize * int(np.prod(stored.shape))
    if file.endswith(".gz"):  # ends with the number of bytes that it holds
        has_all = int.from_bytes(_tail(file)[4:], "little") == n_bytes % 2**32
    else:
        has_all = Path(file).stat().st_size >= n_bytes
    if not has_all:  # truncated, or compressed in several pieces: reading tells
        read_nifti(file)
    return None


def _mask_problem(image: Any) -> str | None:
    image = nib.funcs.squeeze_image(image)  # type: ignore[no-untyped-call]
    voxels = np.asanyarray(image.dataobj)
    voxels = nib.apply_orientation(voxels, nib.io_orientation(image.affine))  # type: ignore[no-untyped-call]
    high = voxels.max()
    if not high > 0 or not np.logical_or(voxels == 0, voxels == high).all():
        return "a mask is 0 outside the brain and has one other value inside it"
    if not _cropped(voxels).any():
        return "no brain voxel of this mask lies in the field of view"
    return None


def _cropped(voxels_xyz: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The paper's field of view, (z, y, x)."""
    return voxels_xyz.transpose(2, 1, 0)[
        tuple(slice(start, start + size) for start, size in zip(CROP_START_ZYX, CROP_SHAPE_ZYX, strict=True))
    ]


def _hashes(scans: pd.DataFrame, table: Path) -> list[str]:
    """What stands for the content of each scan's image and mask.

    Raises:
        InputError: one image under two names.
    """
    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(_content, scans["image_path"]))
        masks = list(threads.map(_content, scans["mask_path"]))
    repeated = pd.Series(images).duplicated(keep=False)
    if repeated.any():
        same = scans["image_path"][(pd.Series(images, index=scans.index) == pd.Series(images)[repeated].iloc[0])]
        raise InputError(f"{table}: {same.iloc[0]} and {same.iloc[1]} are the same image; keep one of the rows")
    return [hashlib.sha256(f"{image} {mask}".encode()).hexdigest() for image, mask in zip(images, masks, strict=True)]


def _content(file: str) -> str:
    """For a .gz its size and the checksum that it ends with, which is read in no time; else a hash of all of it."""
    if file.endswith(".gz"):
        return f"{Path(file).stat().st_size} {_tail(file).hex()}"
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tail(file: str) -> bytes:
    with Path(file).open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        return stream.read()
