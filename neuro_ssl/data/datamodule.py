"""The three splits of a cohort and how they are loaded, for pretraining and for supervised tasks (see `batches`)."""

import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

import lightning.pytorch as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuro_ssl.data.batches import Batch, ScanDataset
from neuro_ssl.data.ram_cache import RamCache
from neuro_ssl.data.samplers import BatchSampler, EpochOrder, Sampling
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.transforms import ScanTransform
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError

Split = Literal["train", "val", "test"]


class ScanDataModule(L.LightningDataModule):
    """What both kinds of training share: three splits of one store, and how they are loaded.

    Args:
        store: an open volume store, or registered images.
        batch_size: scans a step over all processes.
        num_workers: loading processes a rank; 0 loads in the training process.
        seed: of the order in which training scans are drawn, and of `transform`.
        transform: a TorchIO or MONAI transform of training volumes (see `ScanTransform`), or None.
        sampling: how training scans are drawn; by default all, once an epoch.
    """

    classes: list[str] | None = None

    def __init__(
        self,
        store: Volumes,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        transform: Any = None,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if num_workers < 0:
            raise InputError(f"num_workers must be at least 0, got {num_workers}")
        self.store, self.batch_size, self.num_workers, self.seed = store, batch_size, num_workers, seed
        self.sampling = sampling or Sampling()
        self.transform = None if transform is None else ScanTransform(transform, store.grid, seed)
        self.datasets: dict[Split, ScanDataset] = {}
        self._start = (0, 0)

    def cache_in_ram(self, gigabytes: float) -> None:
        """Keep compressed volumes in memory once they are read, one copy a machine, as many as fit.

        Args:
            gigabytes: the most memory to take on a machine; 0 leaves caching to the operating system.

        Raises:
            InputError: a negative amount, or more than the machine has.
        """
        if gigabytes < 0:
            raise InputError(f"ram_cache_gb must be at least 0, got {gigabytes:g}")
        if gigabytes:
            if not isinstance(self.store, VolumeStore):
                raise InputError(
                    f"ram_cache_gb={gigabytes:g}: only volume stores are cached, see preprocess; set it to 0"
                )
            rows = np.concatenate([dataset.scan.numpy() for dataset in self.datasets.values()])
            cache = RamCache(self.store, rows, gigabytes)
            for dataset in self.datasets.values():
                dataset.cache = cache

    def setup(self, stage: str) -> None:
        """Share what is in memory among the processes of a machine; Lightning calls it in all of them."""
        cache = self.datasets["train"].cache
        if cache is not None:
            cache.share()

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches the trainer has consumed (not how many were fetched ahead)."""
        assert self.trainer is not None
        fit: Any = self.trainer.fit_loop
        batches = fit.epoch_loop.batch_progress.current.processed
        if batches == fit.max_batches:  # between epochs
            return {"epoch": fit.epoch_progress.current.started, "batches": 0}
        return {"epoch": fit.epoch_progress.current.started - 1, "batches": batches}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where the trainer stood."""
        self._start = (state_dict["epoch"], state_dict["batches"])

    def scans(self, split: Split) -> pd.DataFrame:
        """The manifest rows of a split.

        Raises:
            InputError: there are none.
        """
        manifest = self.store.manifest
        rows = manifest[manifest["split"] == split]
        if rows.empty:
            raise InputError(
                f"{self.store.path}: no scan has split={split}; give that split a larger share of the subjects"
            )
        return rows

    def _dataset(
        self, split: Split, scans: pd.DataFrame, target: Tensor | None = None, covariates: Tensor | None = None
    ) -> ScanDataset:
        return ScanDataset(self.store, scans, target, self.transform if split == "train" else None, covariates)

    @functools.cached_property
    def _order(self) -> EpochOrder:
        """Of the training scans."""
        train, balance = self.datasets["train"], self.sampling.balance
        group = None
        if balance == "cohort":
            group = pd.factorize(self.store.manifest["cohort"].iloc[train.scan.numpy()], sort=True)[0]
        elif balance == "class":
            if self.classes is None or train.target is None:
                raise InputError("sampling.balance=class: there are no classes; it is for one target with task.classes")
            group = train.target[:, 0].numpy()
        if group is not None and len(np.unique(group)) < 2:
            raise InputError(f"sampling.balance={balance}: all training scans are of one {balance}; leave it out")
        return EpochOrder(train.subject.numpy(), group, self.sampling, self.seed)

    def check_shares(self, world_size: int) -> None:
        """Refuse more processes than the smallest batch of any split has scans.

        Raises:
            InputError: naming the split; or a sampling that these scans do not allow.
        """
        for split, dataset in self.datasets.items():
            n_draws = len(self._order) if split == "train" else len(dataset)
            try:
                BatchSampler(n_draws, self.batch_size, world_size=world_size)
            except InputError as error:
                raise InputError(f"split={split}: {error}") from error

    def largest_share(self, world_size: int) -> int:
        """The most training scans that one of so many processes has in a step."""
        n_draws = len(self._order)
        return math.ceil(n_draws / len(BatchSampler(n_draws, self.batch_size)) / world_size)

    def loader(self, split: Split, *, shuffle: bool = False) -> DataLoader[Batch]:
        """Batches of one split, shared out over the trainer's processes.

        Args:
            split: which one.
            shuffle: draw them as `sampling` says, for training; else all, in the manifest's order.
        """
        dataset = self.datasets[split]
        order = self._order if shuffle else None
        sampler = BatchSampler(
            len(dataset) if order is None else len(order),
            self.batch_size,
            order=order,
            start=self._start if split == "train" else (0, 0),
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        # The sampler makes whole batches (batch_size=None switches torch's own batching off), and as the loader's
        # `sampler` it is where Lightning sets the epoch.
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers if dataset.features is None else 0,
            persistent_workers=self.num_workers > 0 and dataset.features is None,
            pin_memory=torch.cuda.is_available(),
        )

    def __str__(self) -> str:
        counts = ", ".join(f"{len(dataset)} {split}" for split, dataset in self.datasets.items())
        return f"cohort {self.store.cohort} at {self.store.grid.name}, scans: {counts}"

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training scans in a new order each epoch."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation scans in the manifest's order."""
        return self.loader("val")


class SSLDataModule(ScanDataModule):
    """Pretraining on `split=train` alone, so that a cohort can serve both stages; without labels unless asked for.

    Args:
        store: see `ScanDataModule`, as the others.
        covariates: columns that batches carry, and their bandwidths (see `losses.y_aware`); 0: a category.
        volumes_on_host: volumes stay there, for a task that takes them to the device in micro-batches.

    Raises:
        InputError: an unknown column, words that are no category, or a column that no training scan has a value in.
    """

    def __init__(
        self,
        store: Volumes,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        transform: Any = None,
        sampling: Sampling | None = None,
        covariates: Mapping[str, float] | None = None,
        volumes_on_host: bool = False,
    ) -> None:
        super().__init__(store, batch_size, num_workers, seed, transform, sampling)
        self.covariates, self.volumes_on_host = covariates or {}, volumes_on_host
        codes = self._encode(store.manifest) if self.covariates else None
        for split in ("train", "val"):
            scans = self.scans(split)
            self.datasets[split] = self._dataset(
                split, scans, None, None if codes is None else codes[scans.index.to_numpy(copy=True)]
            )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Everything, but for volumes that stay on the host."""
        stays = {"volume": batch["volume"]} if self.volumes_on_host else {}
        moves = {key: value for key, value in batch.items() if key not in stays}
        return {**super().transfer_batch_to_device(moves, device, dataloader_idx), **stays}

    def _encode(self, manifest: pd.DataFrame) -> Tensor:
        """The covariates of all rows, (rows, covariates) float32: numbers, codes of categories, NaN where unknown."""
        columns = []
        for name, bandwidth in self.covariates.items():
            if name not in manifest:
                known = ", ".join(str(column) for column in manifest)
                raise InputError(f"{self.store.path}: no column {name!r} for task.covariates; there are {known}")
            values = manifest[name]
            if bandwidth == 0:
                codes = pd.factorize(values, sort=True)[0].astype(np.float32)
                columns.append(np.where(codes < 0, np.nan, codes))
            elif pd.api.types.is_numeric_dtype(values):
                columns.append(values.to_numpy(np.float32))
            else:
                raise InputError(
                    f"{self.store.path}: column {name!r} holds words such as {values.dropna().iloc[0]!r}: set its "
                    "bandwidth in task.bandwidths to 0, so that equal words are alike"
                )
            if np.isnan(columns[-1][self.scans("train").index]).all():
                raise InputError(
                    f"{self.store.path}: no scan of split=train has a value in column {name!r}; leave it out of "
                    "task.covariates, or fill it in where the dataset comes from and preprocess again"
                )
        return torch.tensor(np.stack(columns, axis=1))

    def __str__(self) -> str:
        train = self.datasets["train"].covariates
        if train is None:
            return super().__str__()
        known = (~train.isnan()).sum(dim=0).tolist()
        return f"{super().__str__()}; with " + ", ".join(
            f"{name} of {n} train" for name, n in zip(self.covariates, known, strict=True)
        )
