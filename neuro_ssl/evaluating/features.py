"""Features of every scan by every encoder, computed once and kept for all evaluations."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.embedding import embed_store, weights_hash
from neuro_ssl.evaluating.models import Model

Array = npt.NDArray[np.float64]


class Features:
    """Files of features, in one folder.

    Args:
        folder: holds `<cohort>/<grid>-<hashes of the store>-<weights>-<hash of them>.parquet`; computed in less than
            float32, with the precision at the end.
        trainer: whose devices compute them.
        batch_size: scans that a device holds at once.
        num_workers: loading processes a device.
    """

    def __init__(self, folder: Path, trainer: L.Trainer, batch_size: int, num_workers: int) -> None:
        self.folder, self.trainer, self.batch_size, self.num_workers = folder, trainer, batch_size, num_workers
        self._hashes: dict[int, str] = {}
        self._extracted: set[Path] = set()

    @property
    def precision(self) -> str:
        """That features are computed in."""
        return str(self.trainer.precision)

    def hash(self, weights: Weights) -> str:
        """Of the weights' content."""
        return self._hashes.setdefault(id(weights), weights_hash(weights))

    def file(self, weights: Weights, volumes: Volumes) -> Path:
        """Where the features of all scans of a store are kept."""
        content = volumes.identity
        name = f"{volumes.grid.name}-{content['preprocessing_hash'][:8]}-{content['manifest_hash'][:8]}"
        own = f"{weights.name}-{self.hash(weights)}{'' if self.precision == '32-true' else f'-{self.precision}'}"
        return self.folder / volumes.cohort / f"{name}-{own}.parquet"

    def extract(self, model: Model) -> None:
        """Compute what is missing; called in every process."""
        for weights in model.weights:
            for volumes in model.volumes.values():
                if (file := self.file(weights, volumes)) in self._extracted:
                    continue  # by no look at the disk, which other processes might take later, and wait for this one
                embed_store(
                    weights, volumes, file, self.trainer, batch_size=self.batch_size, num_workers=self.num_workers
                )
                self._extracted.add(file)

    def read(self, weights: Weights, volumes: Volumes, scans: pd.DataFrame) -> Array:
        """The features of these rows of a manifest, (scans, features), in their order."""
        return read_features(self.file(weights, volumes), scans)


def read_features(file: Path, scans: pd.DataFrame) -> Array:
    """From a file of `embed`, the features of these rows of a manifest: (scans, features), in their order."""
    table = pd.read_parquet(file).set_index("scan_id").loc[scans["scan_id"]]
    return table[[name for name in table if str(name)[0] == "f" and str(name)[1:].isdigit()]].to_numpy(np.float64)
