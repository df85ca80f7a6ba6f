"""Features of every scan of a store, on any number of devices, in one Parquet file in the manifest's order.

The manifest is cut into parts of equal size. Each process computes whole parts and puts each beside the output once it
is done; the first process then joins them. What is there already isn't computed again, however many processes the
command had before. A process holds one part's features and a few batches of volumes, and joining `JOINED` parts'.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

import neuro_ssl
from neuro_ssl.checkpoint import Weights
from neuro_ssl.console import progress_bar
from neuro_ssl.data.batches import Batch, ScanDataset
from neuro_ssl.data.samplers import Draw
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.encoders import Encoder
from neuro_ssl.encoders.pooled import Layer, Pooled, Pooling
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing, held
from neuro_ssl.views.intensity import intensity_of, normalise

METADATA = b"neuro_ssl"  # key of the file's metadata that says what made it, as JSON
SEEN = "seen_in_training"  # column: whether the weights were trained on this subject or image; null: they don't say
LOCAL = ["image_path", "mask_path", "volume", "volume_hash", "image_hash"]  # of the manifest: where, not what
PART_SIZE = 64  # scans; what a kill costs a process at most, and what devices share out
JOINED = 64  # parts a row group of the output: 4,096 rows, 8 MB of 512 features


def embed_store(
    weights: Weights,
    store: Volumes,
    output: Path,
    trainer: L.Trainer,
    *,
    layer: Layer = "last",
    pooling: Pooling = "encoder",
    batch_size: int = 8,
    num_workers: int = 0,
    part_size: int = PART_SIZE,
) -> bool:
    """Write the features of all scans of a store; called in every process.

    The file has a row for each row of the manifest, in its order: `scan_id`, the manifest's other columns but for paths
    and hashes, `seen_in_training`, and the features as `f0`, `f1`, … in float32. Its metadata says under `neuro_ssl`
    which weights (name, path, hash of all tensors), store (and whether it is simulated), layer, pooling and precision
    made it.

    Args:
        weights: of the encoder.
        store: an open volume store, or registered images.
        output: the Parquet file. Parts are kept beside it until it is whole.
        trainer: whose devices and precision are used; without Lightning's distributed sampler.
        layer: see `Pooled`.
        pooling: see `Pooled`.
        batch_size: scans that a device holds at once.
        num_workers: loading processes a device.
        part_size: scans that are computed before they are put on disk.

    Returns:
        Whether anything was computed or joined: not if the file was there, made by the same weights of the same store.

    Raises:
        InputError: scans prepared in another way than the weights expect, a file of other features at `output`,
            another process at work on it, or a number, layer or pooling that cannot be.
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("num_workers", num_workers, 0),
        ("part_size", part_size, 1),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if str(trainer.precision) not in ("32-true", "16-mixed", "bf16-mixed"):
        raise InputError(f"trainer.precision must be 32-true, 16-mixed or bf16-mixed, got {trainer.precision}")
    weights.check_data(store.summary)
    encoder = weights.build_encoder()
    if isinstance(encoder, Encoder):
        encoder.check_grid(store.grid.shape)
    pooled = Pooled(encoder, layer, pooling).eval()
    made_by = {
        "weights": weights.name,
        "weights_hash": weights_hash(weights),
        "store": store.identity,
        "grid": store.grid.name,
        "n_scans": len(store.manifest),
        "layer": layer,
        "pooling": pooling,
        "precision": str(trainer.precision),
    }
    if output.exists():
        if _made_by(output) == made_by:
            return False
        raise InputError(f"{output} is there, and not of these weights, scans and options; choose another output")
    labels = labels_of(store.manifest, weights)
    content = json.dumps([made_by, part_size], sort_keys=True)
    parts = _Parts(
        output.with_name(f".{output.name}.{hashlib.sha256(content.encode()).hexdigest()[:8]}"),
        len(store.manifest),
        part_size,
    )
    with parts.locked(trainer.is_global_zero):
        trainer.predict(_Embedding(pooled, parts, store, batch_size, num_workers), return_predictions=False)
        trainer.strategy.barrier("parts")
        if trainer.is_global_zero:
            about = {
                "made_by": made_by,
                "path": str(weights.path),
                "simulated": store.simulated,
                "version": neuro_ssl.__version__,
            }
            parts.join(labels, output, about)
            shutil.rmtree(parts.folder)
    return True


def weights_hash(weights: Weights) -> str:
    """Of all tensors, the encoder that they belong to, and how it wants its volumes: what decides the features."""
    content = hashlib.sha256(json.dumps([weights.encoder, weights.intensity], sort_keys=True).encode())
    for name, tensor in sorted(weights.state.items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()[:16]


def labels_of(manifest: pd.DataFrame, weights: Weights) -> pd.DataFrame:
    """What is known of each scan, one row each, `scan_id` first and `seen_in_training` last.

    Raises:
        InputError: the manifest has a column that is called as ours are.
    """
    labels = manifest.drop(columns=LOCAL, errors="ignore")
    labels.insert(0, "scan_id", labels.pop("scan_id"))
    if taken := [str(name) for name in labels if name == SEEN or re.fullmatch(r"f\d+", str(name))]:
        raise InputError(f"the manifest has a column {taken[0]}, which is a name of this file's own: rename it")
    known = weights.seen
    seen = known.shows(manifest).astype("boolean")
    return labels.assign(**{SEEN: seen if known.complete else seen.where(seen)})


def _made_by(output: Path) -> Mapping[str, Any] | None:
    """What a file of features says of its making; None if it is no such file."""
    try:
        metadata = pq.read_schema(output).metadata or {}
        made_by: Mapping[str, Any] = json.loads(metadata[METADATA])["made_by"]
    except (KeyError, ValueError, OSError):  # pyarrow's errors are of these
        return None
    return made_by


class _Parts:
    """The features of rows 0 to part_size − 1, and so on, each a file that is whole if it is there."""

    def __init__(self, folder: Path, n_rows: int, part_size: int) -> None:
        self.folder, self.n_rows, self.part_size = folder, n_rows, part_size
        self.starts = range(0, n_rows, part_size)

    def rows(self, start: int) -> range:
        return range(start, min(start + self.part_size, self.n_rows))

    def file(self, start: int) -> Path:
        return self.folder / f"{start:08d}.npy"

    def missing(self) -> list[int]:
        return [start for start in self.starts if not self.file(start).is_file()]

    def write(self, start: int, features: npt.NDArray[np.float32]) -> None:
        with appearing(self.file(start)) as file, file.open("wb") as stream:
            np.save(stream, features)

    @contextmanager
    def locked(self, first_process: bool) -> Iterator[None]:
        """Hold the folder, in the first process for all; the system lets go of it when that ends."""
        if not first_process:
            yield
            return
        with held(self.folder, work="makes the same file", elsewhere="choose another output"):
            yield

    def join(self, labels: pd.DataFrame, output: Path, about: Mapping[str, Any]) -> None:
        """All parts as one Parquet file, beside their labels."""
        if missing := self.missing():
            raise InputError(
                f"{self.folder}: {len(missing)} of {len(self.starts)} parts are not there; with several machines, "
                "output must be in a folder that all of them share"
            )
        columns = [f"f{i}" for i in range(np.load(self.file(0), mmap_mode="r").shape[1])]
        table = pa.Table.from_pandas(labels, preserve_index=False)
        schema = pa.schema([*table.schema, *(pa.field(name, pa.float32()) for name in columns)])
        schema = schema.with_metadata({**table.schema.metadata, METADATA: json.dumps(about).encode()})
        with appearing(output) as file, pq.ParquetWriter(file, schema) as writer:
            for first in range(0, len(self.starts), JOINED):
                starts = self.starts[first : first + JOINED]
                features = np.concatenate([np.load(self.file(start)) for start in starts])
                some = table.slice(starts[0], len(features))
                arrays = [*some.columns, *(pa.array(values) for values in np.ascontiguousarray(features.T))]
                writer.write_table(pa.table(arrays, schema=schema))


class _PartBatches(Sampler[list[Draw]]):
    """Batches of some parts' rows, in order; none crosses from one part to the next."""

    def __init__(self, parts: Sequence[range], batch_size: int) -> None:
        self.batches = [rows[i : i + batch_size] for rows in parts for i in range(0, len(rows), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        for rows in self.batches:
            yield [Draw(row, 0, row) for row in rows]


class _Embedding(L.LightningModule):
    """Computes this process's share of the parts that are missing."""

    def __init__(self, encoder: nn.Module, parts: _Parts, store: Volumes, batch_size: int, num_workers: int) -> None:
        super().__init__()
        self.encoder, self.parts, self.store = encoder, parts, store
        self.batch_size, self.num_workers = batch_size, num_workers
        self.features: list[Tensor] = []
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer parts than processes

    def predict_dataloader(self) -> DataLoader[Batch]:
        missing = self.trainer.strategy.broadcast(self.parts.missing())  # one list for all, whoever looks first
        mine = [self.parts.rows(start) for start in missing[self.trainer.global_rank :: self.trainer.world_size]]
        n_rows = sum(map(len, mine))
        self.bar = progress_bar(
            total=n_rows, desc="embed", unit="scan", delay=10, disable=not self.trainer.is_global_zero
        )
        return DataLoader(
            ScanDataset(self.store, self.store.manifest),
            batch_size=None,
            sampler=_PartBatches(mine, self.batch_size),
            num_workers=self.num_workers if n_rows else 0,
            pin_memory=torch.cuda.is_available(),
        )

    def predict_step(self, batch: Batch) -> Tensor:
        volume = normalise(batch["volume"], intensity_of(self.encoder))
        features: Tensor = self.encoder(volume).float().cpu()
        self.features.append(features)
        rows = batch["scan"].tolist()
        self.bar.update(len(rows))
        part = self.parts.rows(rows[0] // self.parts.part_size * self.parts.part_size)
        if rows[-1] == part[-1]:
            self.parts.write(part[0], torch.cat(self.features).numpy())
            self.features = []
        return features  # Lightning warns of steps without a result, and is told to keep none

    def on_predict_end(self) -> None:
        self.bar.close()
