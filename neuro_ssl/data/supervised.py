"""The scans of a downstream task: those that are labelled, in the three splits (see `datamodule`)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuro_ssl.console import progress_bar
from neuro_ssl.data.batches import Batch, ScanDataset
from neuro_ssl.data.datamodule import ScanDataModule, Split
from neuro_ssl.data.samplers import BatchSampler, Sampling
from neuro_ssl.data.targets import Target, read_labels
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError


class SupervisedDataModule(ScanDataModule):
    """Scans with a label of at least one target; the others are left out, and a missing label is NaN.

    Args:
        store: an open volume store.
        targets: what to learn.
        batch_size: see `ScanDataModule`, as the others.

    Raises:
        InputError: an unknown column, a label that is neither class, a split without a labelled scan of some target,
            or for classification a split with one class alone.
    """

    def __init__(
        self,
        store: Volumes,
        targets: Sequence[Target],
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        transform: Any = None,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__(store, batch_size, num_workers, seed, transform, sampling)
        self.targets = list(targets)
        if len(targets) == 1 and targets[0].classes:
            self.classes = list(targets[0].classes)
        splits: tuple[Split, ...] = ("train", "val", "test")
        self.datasets = {split: self._labelled(split) for split in splits}

    def _labelled(self, split: Split) -> ScanDataset:
        scans = self.scans(split)
        labels = torch.stack([self._encode(scans, split, target) for target in self.targets], dim=1)
        labelled = ~labels.isnan().all(dim=1)
        return self._dataset(split, scans[labelled.numpy()], labels[labelled])

    def _encode(self, scans: pd.DataFrame, split: Split, target: Target) -> Tensor:
        """The labels of all scans, (scans,) float32: the value, or 1 for the second class; NaN: missing."""
        key = f"task.targets.{target.name}" if len(self.targets) > 1 else "task"
        labels = read_labels(scans, target, self.store.path, key)
        known = labels.dropna()
        if known.empty:
            raise InputError(
                f"{self.store.path}: no scan of split={split} has a value to learn in column {target.target!r}; fill "
                "it in where the dataset comes from and preprocess again, or choose another task"
            )
        if target.classes and known.nunique() == 1:
            raise InputError(
                f"{self.store.path}: split={split} holds only {target.classes[int(known.iloc[0])]} in column "
                f"{target.target!r}; classification needs both classes in every split"
            )
        return torch.tensor(labels.to_numpy(np.float32, copy=True))

    @property
    def target_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training scans' labels, one a target."""
        labels = self.datasets["train"].target
        assert labels is not None
        known = [column[~column.isnan()].double() for column in labels.T]
        return [float(column.mean()) for column in known], [float(column.std(correction=0)) for column in known]

    def __str__(self) -> str:
        if len(self.targets) == 1:
            return super().__str__()
        counts = {
            split: (~dataset.target.isnan()).sum(dim=0).tolist()
            for split, dataset in self.datasets.items()
            if dataset.target is not None
        }
        each = (
            f"{target.name} of {', '.join(f'{n[i]} {split}' for split, n in counts.items())}"
            for i, target in enumerate(self.targets)
        )
        return f"{super().__str__()}; {'; '.join(each)}"

    def cache_features(
        self, extract: Callable[[Tensor], Tensor], splits: Sequence[Split] = ("train", "val", "test")
    ) -> None:
        """Replace the volumes of these splits by features, computed once: for an encoder that doesn't change.

        Args:
            extract: volume (batch, 1, z, y, x) on the CPU → features (batch, embed_dim).
            splits: whose.
        """
        todo = [self.datasets[split] for split in splits if self.datasets[split].features is None]
        with progress_bar(total=sum(map(len, todo)), desc="features", unit="scan", disable=not todo) as bar:
            for dataset in todo:
                parts = []
                for draws in BatchSampler(len(dataset), self.batch_size):
                    parts.append(extract(dataset[draws]["volume"]).cpu())
                    bar.update(len(draws))
                dataset.features = torch.cat(parts)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test scans in the manifest's order."""
        return self.loader("test")
