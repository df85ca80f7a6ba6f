"""Scans as TorchIO subjects (Pérez-García et al. 2021, doi 10.1016/j.cmpb.2021.106236), for use outside of training.

    from neuro_ssl.data.manifest import read_manifest
    from neuro_ssl.data.subjects import subject

    subjects = [subject(row) for _, row in read_manifest("scans.csv").iterrows()]
    dataset = torchio.SubjectsDataset(subjects, transform=torchio.RandomAffine())

TorchIO's axes are (channel, x, y, z), as NIfTI stores them, where a volume of ours is (z, y, x); world coordinates are
RAS in both.
"""

import functools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torchio
from torch import Tensor

from neuro_ssl.data.transforms import to_xyz
from neuro_ssl.data.volumes import Volumes, canonical_grid
from neuro_ssl.errors import InputError

Row = Mapping[Any, Any] | pd.Series


def subject(row: Row) -> torchio.Subject:
    """The images of a manifest's row, as they are on disk.

    Args:
        row: of a manifest: `image_path`, and optionally `mask_path` and whatever else is known.

    Returns:
        A subject with `t1`, with `brain` where the row has a mask, and with every other fact that isn't missing
        under its column's name. Voxels are read when they are first used. Where mask and image are stored with their
        axes in different orders, put `torchio.ToCanonical()` before spatial transforms.

    Raises:
        InputError: no image in the row, a file that is not there, or a mask on another grid than its image.
    """
    facts = _facts(row)
    if "image_path" not in facts:
        raise InputError(f"a row needs image_path, this one has {', '.join(facts) or 'nothing'}")
    images = {"t1": _image(torchio.ScalarImage, facts["image_path"])}
    if "mask_path" in facts:
        images["brain"] = _image(torchio.LabelMap, facts["mask_path"])
        (ours, at), (theirs, mask_at) = (canonical_grid(i.spatial_shape, i.affine) for i in images.values())
        if ours != theirs or not np.allclose(at, mask_at, atol=0.1):
            raise InputError(
                f"{facts['mask_path']}: the mask's grid (shape {theirs}, first voxel at {mask_at[:3, 3].round(1)} mm) "
                f"differs from its image's (shape {ours}, {at[:3, 3].round(1)} mm); resample the mask onto the image"
            )
    return torchio.Subject(**facts, **images)


def volume_subject(volumes: Volumes, row: Row) -> torchio.Subject:
    """A preprocessed scan, as training reads it.

    Args:
        volumes: an open store, such as `VolumeStore.find("data/stores/ixi", "4mm")`.
        row: of its manifest.

    Returns:
        A subject as `subject` gives it, except that `t1` is the volume: float32, brain > 0, 0 outside; and `brain`
        is where it is > 0. Voxels are read when they are first used.

    Raises:
        InputError: the row names no volume, or one that is not there.
    """
    facts = _facts(row)
    if "volume" not in facts:
        raise InputError(f"{volumes.path}: a row of its manifest is needed, with a column volume")
    volume = str(facts["volume"])
    file = volumes.path / volume

    def image(kind: Any, mask: bool) -> Any:
        return _image(kind, file, reader=functools.partial(_read, volumes, volume, mask))

    return torchio.Subject(**facts, t1=image(torchio.ScalarImage, False), brain=image(torchio.LabelMap, True))


def _facts(row: Row) -> dict[str, Any]:
    known = {str(name): value for name, value in row.items() if not pd.isna(value)}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in known.items()}


def _image(kind: Any, path: Any, **options: Any) -> Any:
    try:
        image = kind(path, **options)
        if not options:
            image.affine  # noqa: B018 - reads the header alone
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; correct its path, or leave the scan out") from error
    except (RuntimeError, TypeError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); fetch it again") from error
    return image


def _read(volumes: Volumes, volume: str, mask: bool, path: Hashable) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """What TorchIO calls to load an image."""
    tensor = to_xyz(volumes.read(volume))
    return (tensor > 0).to(torch.uint8) if mask else tensor, volumes.grid.affine
