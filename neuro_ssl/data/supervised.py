"""The scans of a downstream task: those that have its target, in the three splits (see `datamodule`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuro_ssl.console import progress_bar
from neuro_ssl.data.batches import Batch, ScanDataset
from neuro_ssl.data.datamodule import ScanDataModule, Split
from neuro_ssl.data.dataset import code_text
from neuro_ssl.data.samplers import BatchSampler, Sampling
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError


class SupervisedDataModule(ScanDataModule):
    """Scans with a target; scans whose target is missing are left out.

    Args:
        store: an open volume store.
        target: manifest column.
        classes: for classification the two labels, the positive one second; None for regression.
        leave_out: labels of scans to leave out.
        batch_size: see `ScanDataModule`, as the others.

    Raises:
        InputError: an unknown column, a label that is neither class, a split without labelled scans, or for
            classification a split with one class alone.
    """

    def __init__(
        self,
        store: Volumes,
        target: str,
        classes: list[str] | None,
        leave_out: list[str] | None,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        transform: Any = None,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__(store, batch_size, num_workers, seed, transform, sampling)
        self.target, self.classes, self.leave_out = target, classes, leave_out or []
        splits: tuple[Split, ...] = ("train", "val", "test")
        self.datasets = {split: self._labelled(split) for split in splits}

    def _labelled(self, split: Split) -> ScanDataset:
        manifest = self.store.path
        scans = self.scans(split)
        if self.target not in scans:
            known = ", ".join(str(column) for column in scans)
            raise InputError(f"{manifest}: no column {self.target!r} to learn; there are {known}")
        scans = scans[scans[self.target].notna() & ~scans[self.target].map(code_text).isin(self.leave_out)]
        if scans.empty:
            raise InputError(
                f"{manifest}: no scan of split={split} has a value to learn in column {self.target!r}; fill it in "
                "where the dataset comes from and preprocess again, or choose another task"
            )
        return self._dataset(split, scans, self._encode(scans, split, manifest))

    def _encode(self, scans: pd.DataFrame, split: Split, manifest: Path) -> Tensor:
        values = scans[self.target]
        if self.classes is None:
            if not pd.api.types.is_numeric_dtype(values):
                raise InputError(
                    f"{manifest}: column {self.target!r} holds words such as {values.iloc[0]!r}; a regression needs "
                    "numbers, and a classification task.classes"
                )
            return torch.tensor(values.to_numpy(np.float32))
        values = values.map(code_text)
        unknown = sorted(set(values) - set(self.classes))
        if unknown:
            raise InputError(
                f"{manifest}: column {self.target!r} holds {', '.join(unknown)}, not in task.classes={self.classes}; "
                "leave them out with task.leave_out=[…], or map them with dataset.values when preprocessing"
            )
        if values.nunique() == 1:
            raise InputError(
                f"{manifest}: split={split} holds only {values.iloc[0]} in column {self.target!r}; "
                "classification needs both classes in every split"
            )
        return torch.tensor((values == self.classes[1]).to_numpy(np.float32))

    @property
    def target_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the training scans' targets."""
        target = self.datasets["train"].target
        assert target is not None
        return float(target.double().mean()), float(target.double().std(correction=0))

    def cache_features(self, extract: Callable[[Tensor], Tensor]) -> None:
        """Replace the volumes of all splits by features, computed once: for an encoder that doesn't change.

        Args:
            extract: volume (batch, 1, z, y, x) on the CPU → features (batch, embed_dim).
        """
        todo = [dataset for dataset in self.datasets.values() if dataset.features is None]
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
