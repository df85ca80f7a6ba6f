"""What any encoder has to beat: the brain's volume and how its intensities are distributed, eleven numbers a scan."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.console import progress_bar
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import Array
from neuro_ssl.grid import Grid

QUANTILES = np.linspace(0.05, 0.95, 10)
STATISTICS = ("brain_ml", *(f"intensity_q{round(100 * q):02d}" for q in QUANTILES))


class Scans(Protocol):
    """What of `data.volumes.Volumes` is needed here."""

    @property
    def manifest(self) -> pd.DataFrame:
        """One row a scan, with `scan_id` and `volume`."""

    @property
    def grid(self) -> Grid:
        """The grid that all volumes are on."""

    def read(self, volume: str) -> npt.NDArray[Any]:
        """The volume of that name, (z, y, x), brain > 0, everything else exactly 0."""


def image_statistics(volume: npt.NDArray[Any], spacing_mm: float) -> Array:
    """Brain volume in ml, and the 0.05, 0.15, … 0.95 quantiles of the brain's intensities: (11,), see `STATISTICS`.

    In a store intensities are relative to white matter, so that the quantiles tell how much fluid and grey matter there
    is, and how bright they are.

    Args:
        volume: (z, y, x), brain > 0, everything else exactly 0.
        spacing_mm: isotropic voxel size.

    Raises:
        InputError: there is no brain in it.
    """
    brain = volume[volume > 0].astype(np.float64)
    if brain.size == 0:
        raise InputError("the volume is empty: no voxel is > 0; leave the scan out, see quality.html of its store")
    return np.array([brain.size * spacing_mm**3 / 1000, *np.quantile(brain, QUANTILES)])


def store_statistics(store: Scans) -> pd.DataFrame:
    """`image_statistics` of every scan of a store: one row a scan in the manifest's order, with its index.

    Args:
        store: an open volume store, or registered images.

    Returns:
        `scan_id`, and the columns `STATISTICS`.

    Raises:
        InputError: a volume without a brain, naming the scan.
    """
    manifest = store.manifest
    rows = []
    names = zip(manifest["scan_id"], manifest["volume"], strict=True)
    for scan_id, name in progress_bar(iterable=names, total=len(manifest), desc="statistics", unit="scan", delay=10):
        try:
            rows.append(image_statistics(store.read(name), store.grid.spacing_mm))
        except InputError as error:
            raise InputError(f"scan {scan_id}: {error}") from error
    statistics = pd.DataFrame(np.array(rows).reshape(-1, len(STATISTICS)), manifest.index, list(STATISTICS))
    return pd.concat([manifest[["scan_id"]], statistics], axis=1)
