"""What the pretraining tasks share: views of each volume, means over an epoch, signs of a collapse."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.distributed import count_shares, gather_rows, weighted_for_ddp
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.representation import rankme, spread
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.gradient_cache import in_micro_batches, n_micro_batches
from neuro_ssl.tasks.running_mean import RunningMean
from neuro_ssl.views.intensity import check_views, intensity_of, normalise
from neuro_ssl.views.random import view_keys


class Pretraining(L.LightningModule):
    """Training of an encoder without a downstream target; a subclass says what a batch's loss is.

    Args:
        encoder: volume (batch, 1, z, y, x) → features (batch, embed_dim), with attribute `embed_dim`.
        views: (volume, keys) → view, see `neuro_ssl.views`; None: the standardised volume.
        optimizer: what to train with.
        seed: of the views, and of whatever else is drawn for a sample.
        micro_batch_size: scans that a device holds at once; a larger share of the batch is computed bit by bit, with
            the same gradient but for batch norm (see `gradient_cache`). None: all at once.
            (`SSLDataModule(volumes_on_host=True)` lets the others wait on the host.)

    Attributes:
        n_views: of each volume.
        views_per_scan: how many of them the encoder is shown whole (see `callbacks.Throughput`).
        measures: what `measure` returns for the log, `loss` among them.
        likeness_warns: whether embeddings that are all alike tell of a failure, which `Health` then warns of.
        covariates: labels that pretraining learns from: columns of the manifest, and their bandwidths.
        best: what chooses the epoch whose encoder is kept. No validation score says which will serve best: the last.
    """

    stage: ClassVar[str] = "pretraining"
    best: ClassVar[dict[str, Any]] = {}
    n_views: ClassVar[int]
    views_per_scan: ClassVar[int]
    measures: ClassVar[tuple[str, ...]]
    likeness_warns: ClassVar[bool] = True
    covariates: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        micro_batch_size: int | None,
    ) -> None:
        super().__init__()
        if micro_batch_size is not None and micro_batch_size < 1:
            raise InputError(
                f"micro_batch_size must be at least 1, or null for the whole share; got {micro_batch_size}"
            )
        check_views(views, encoder)
        self.encoder, self.views, self.optimizer, self.seed = encoder, views, optimizer, seed
        self.micro_batch_size = micro_batch_size
        for name in self.measures:
            # (Lightning's own mean over processes is wrong where their shares differ: it divides by a rounded count.)
            train, val = RunningMean(), RunningMean()
            train.persistent(True)  # in the checkpoint, so that a restart within an epoch keeps its first part
            setattr(self, f"train_{name}", train)
            setattr(self, f"val_{name}", val)
        self._val_embeddings: list[Tensor] = []

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """One forward pass.

        Returns:
            `measures` by name, each a scalar mean over this rank's scans, and embeddings (batch, embed_dim), which are
            looked at in evaluation mode alone.
        """
        raise NotImplementedError

    def keys(self, batch: Batch) -> tuple[Tensor, ...]:
        """Of each view, the random keys of its samples, (batch, 2) each."""
        return tuple(view_keys(self.seed, batch["epoch"], batch["draw"], view) for view in range(self.n_views))

    def make_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """The views of each volume of a batch, (batch, 1, z, y, x) in float32 each."""
        volume = batch["volume"].to(self.device, non_blocking=True)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):  # float32 inside mixed precision
            if self.views is None:
                return (normalise(volume, intensity_of(self.encoder)),) * self.n_views
            return tuple(self.views(volume, keys) for keys in self.keys(batch))

    def in_micro_batches(self, some: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """What `some` makes of a batch's scans, a row each, of as many at once as `micro_batch_size` says.

        Args:
            some: `volume`, `epoch` and `draw` of some scans → their rows, equal ones each time that it is called.
            batch: with `shares`.
        """

        def rows_of(rows: slice) -> Tensor:
            return some({key: batch[key][rows] for key in ("volume", "epoch", "draw")})

        n_parts = n_micro_batches(batch["shares"], self.micro_batch_size)
        return in_micro_batches(rows_of, len(batch["scan"]), n_parts, self.encoder)

    def with_shares(self, batch: Batch) -> Batch:
        """The batch with its `shares`; the data module's have them already."""
        return batch if "shares" in batch else batch | {"shares": count_shares(len(batch["scan"]), self.device)}

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of this process's scans alone, all at once whatever `micro_batch_size` says."""
        size, self.micro_batch_size = self.micro_batch_size, None
        try:
            return self.measure(batch)[0]["loss"]
        finally:
            self.micro_batch_size = size

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; logs `measures` as means of the epoch."""
        measured, _ = self.measure(batch)
        n = len(batch["scan"])
        for name in self.measures:
            mean = getattr(self, f"train_{name}")
            mean.update(measured[name], n)
            self.log(f"train/{name}", mean, prog_bar=name == "loss", on_epoch=True, on_step=False)
        return weighted_for_ddp(measured["loss"], n, batch.get("shares"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on held-out subjects, with the same random numbers every time (epoch 0's)."""
        measured, embedding = self.measure(batch)
        for name in self.measures:
            mean = getattr(self, f"val_{name}")
            mean.update(measured[name], len(batch["scan"]))
            self.log(f"val/{name}", mean, prog_bar=name == "loss")
        self._val_embeddings.append(embedding)

    def on_validation_epoch_end(self) -> None:
        """Log whether the representation collapses: the embeddings' spread and effective rank."""
        embedding, _ = gather_rows(torch.cat(self._val_embeddings).float())
        self._val_embeddings.clear()
        if len(embedding) < 2:
            return  # one scan has no spread
        self.log("val/rankme", rankme(embedding), sync_dist=True)
        self.log("val/embedding_sd", spread(embedding), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser over encoder and head."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        return self.optimizer.build(self.parameters(), n_steps, self.encoder)
