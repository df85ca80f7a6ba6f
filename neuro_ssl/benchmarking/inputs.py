"""The first two parts: reading scans, and making views of them."""

import itertools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from neuro_ssl.benchmarking import reference
from neuro_ssl.benchmarking.material import Material
from neuro_ssl.benchmarking.measurement import OURS, REFERENCE, Measurement, measure
from neuro_ssl.preprocessing.threads import one_thread
from neuro_ssl.views.random import view_keys


def loader(material: Material, min_seconds: float) -> list[Measurement]:
    """Seconds to read a scan on one core: the store's volume, and the paper's two files.

    Args:
        material: what to read.
        min_seconds: for how long to measure each.
    """
    volumes = itertools.cycle(material.store.manifest["volume"])
    files = itertools.cycle(zip(material.images, material.masks, strict=True))
    shape = material.store.grid.shape
    with one_thread():
        ours = measure(lambda: torch.from_numpy(material.store.read(next(volumes))), min_seconds=min_seconds)
        theirs = measure(lambda: reference.load(*next(files), shape), min_seconds=min_seconds)
    return [
        Measurement("loader", "a volume of the store", OURS, unit="scan", **ours),
        Measurement("loader", "two .nii.gz through float64", REFERENCE, unit="scan", **theirs),
    ]


def views(
    material: Material, families: Mapping[str, nn.Module], device: str, batch_size: int, min_seconds: float
) -> list[Measurement]:
    """Seconds for two views of a scan: ours one by one on one core, on a GPU in batches; the paper's on one core.

    Args:
        material: whose first scan is looked at.
        families: views to measure, by name.
        device: of ours.
        batch_size: pairs made together on a GPU.
        min_seconds: for how long to measure each.
    """
    n = 1 if device == "cpu" else batch_size
    volume = torch.from_numpy(material.store.read(material.store.manifest["volume"][0]))
    batch_B1zyx = volume[None, None].expand(n, 1, *volume.shape).to(device)
    image, mask = reference.load(material.images[0], material.masks[0], material.store.grid.shape)
    transforms = reference.Views(material.store.grid.shape)
    transforms.seed(0)
    rows = []
    with one_thread(), torch.no_grad():
        for name, family in families.items():
            draws = itertools.count()

            def pair(family: nn.Module = family, draws: Iterator[int] = draws) -> list[Tensor]:
                start = next(draws) * n
                draw = torch.arange(start, start + n, device=device)
                return [family(batch_B1zyx, view_keys(0, torch.zeros_like(draw), draw, view)) for view in (0, 1)]

            ours = measure(pair, units=n, min_seconds=min_seconds, device=device)
            where = "one core" if device == "cpu" else f"{device}, {n} at a time"
            rows.append(Measurement("views", f"{name}, {where}", OURS, unit="pair", **ours))
        theirs = measure(lambda: [transforms(image, mask) for _ in range(2)], min_seconds=min_seconds)
    return [*rows, Measurement("views", "MONAI, three resamplings a view, one core", REFERENCE, unit="pair", **theirs)]
