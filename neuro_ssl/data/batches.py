"""Scans as batches, from a volume store or registered images.

A batch is a dictionary of tensors, and of what the host must know without asking the device:
    volume: (batch, 1, z, y, x) float16 or 32, brain > 0, background 0; or, once cached, features: (batch, embed_dim).
    scan: (batch,) row of the scan in the store's manifest.
    subject: (batch,) integer code of its subject (see `splits.persons`), the same in every process.
    epoch, draw: (batch,) when it was drawn (see `samplers.Draw`).
    shares: number of scans on every rank, integers.
    covariates: (batch, covariates) float32, for y-aware pretraining: numbers and codes of categories, NaN: unknown.
    target: (batch, targets) float32, for supervised tasks: the value, or 1 for the second class; NaN: missing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from neuro_ssl.data.ram_cache import RamCache
from neuro_ssl.data.samplers import Draw, Share
from neuro_ssl.data.splits import persons
from neuro_ssl.data.transforms import ScanTransform
from neuro_ssl.data.volumes import Volumes

Batch = dict[str, Any]


class ScanDataset(Dataset[Batch]):
    """Scans of a store; indexed by a list of draws, it returns a whole batch.

    Args:
        store: where the volumes are.
        scans: rows of the store's manifest, whose index is kept as the scan's number.
        target: (rows, targets), or None.
        covariates: (rows, covariates), or None.
        transform: of each volume as it is drawn, or None; it is tried on the first one.

    Raises:
        InputError: the transform does not work.
    """

    def __init__(
        self,
        store: Volumes,
        scans: pd.DataFrame,
        target: Tensor | None = None,
        transform: ScanTransform | None = None,
        covariates: Tensor | None = None,
    ) -> None:
        self.store = store
        self.volumes = list(scans["volume"])
        self.scan = torch.as_tensor(scans.index.to_numpy(copy=True))
        codes = pd.factorize(persons(store.manifest), sort=True)[0]
        self.subject = torch.as_tensor(codes[scans.index])
        self.target, self.covariates = target, covariates
        self.features: Tensor | None = None
        self.cache: RamCache | None = None
        self.transform = transform
        if transform is not None:
            transform.try_on(store.read(self.volumes[0]), str(scans["scan_id"].iloc[0]))

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        rows = [draw.row for draw in draws]
        batch: Batch = {
            "scan": self.scan[rows],
            "subject": self.subject[rows],
            "epoch": torch.tensor([draw.epoch for draw in draws]),
            "draw": torch.tensor([draw.position for draw in draws]),
        }
        if isinstance(draws, Share):
            batch["shares"] = draws.counts
        if self.covariates is not None:
            batch["covariates"] = self.covariates[rows]
        if self.features is not None:
            batch["features"] = self.features[rows]
        else:
            volumes = [self._read(row) for row in rows]
            if self.transform is not None:
                volumes = [self.transform(volume, draw) for volume, draw in zip(volumes, draws, strict=True)]
            batch["volume"] = torch.from_numpy(np.stack(volumes))[:, None]
        if self.target is not None:
            batch["target"] = self.target[rows]
        return batch

    def _read(self, row: int) -> npt.NDArray[Any]:
        volume = self.volumes[row]
        return self.store.read(volume) if self.cache is None else self.cache.read(int(self.scan[row]), volume)
