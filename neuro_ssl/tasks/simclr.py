"""SimCLR (Chen et al. 2020) on brain volumes, with the paper's head (Kaczmarek et al. 2025): 512 → 512 → 64.

Differs from the paper's code: views are made on the training device and never repeat, negatives come from all ranks
with their gradients, other scans of the same subject are no negatives, and a batch may be larger than what a device
holds (see `gradient_cache`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.distributed import count_shares, gather_rows, weighted_for_ddp
from neuro_ssl.errors import InputError
from neuro_ssl.losses import nt_xent
from neuro_ssl.losses.contrastive import Positives
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.gradient_cache import in_micro_batches, n_micro_batches
from neuro_ssl.tasks.running_mean import RunningMean
from neuro_ssl.views.random import view_keys


class SimCLR(L.LightningModule):
    """Contrastive pretraining of an encoder.

    Args:
        encoder: volume (batch, 1, z, y, x) → features (batch, embed_dim), with attribute `embed_dim`.
        views: (volume, keys) → view, see `neuro_ssl.views`.
        optimizer: what to train with.
        seed: of the views.
        projector_dims: widths of the head's layers; ReLU between them, no biases, no norms.
        temperature: of NT-Xent.
        positives: augmentation: the other view of the anchor's scan, and other scans of its subject are left out;
            subject: those too.
        micro_batch_size: scans that a device holds at once, two views each; a larger share of the batch is embedded
            bit by bit, with the same gradient but for batch norm, which normalises over two times as many volumes.
            None: all at once. (`SSLDataModule(volumes_on_host=True)` lets the others wait on the host.)
    """

    stage: ClassVar[str] = "pretraining"
    # No validation score says which epoch's encoder will serve best: the last is kept.
    best: ClassVar[dict[str, Any]] = {}
    # Labels that pretraining learns from: columns of the manifest, and their bandwidths.
    covariates: Mapping[str, float] = MappingProxyType({})
    views_per_scan: ClassVar[int] = 2

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        projector_dims: tuple[int, ...] = (512, 64),
        temperature: float = 0.5,
        positives: Positives = "augmentation",
        micro_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if views is None:
            raise InputError("views=none leaves SimCLR two equal views: choose views=standard or views=kaczmarek2025")
        if micro_batch_size is not None and micro_batch_size < 1:
            raise InputError(
                f"micro_batch_size must be at least 1, or null for the whole share; got {micro_batch_size}"
            )
        if not temperature > 0:
            raise InputError(f"task.temperature must be positive, got {temperature}")
        self.encoder, self.views, self.optimizer, self.seed = encoder, views, optimizer, seed
        self.temperature, self.positives, self.micro_batch_size = temperature, positives, micro_batch_size
        layers: list[nn.Module] = []
        width = int(encoder.embed_dim)  # type: ignore[arg-type]
        for i, dim in enumerate(projector_dims):
            layers += [nn.ReLU()] if i else []
            layers.append(nn.Linear(width, dim, bias=False))
            width = dim
        self.projector = nn.Sequential(*layers)
        # Means of the epoch, in the checkpoint, so that a restart within an epoch keeps its first part.
        self.train_loss, self.train_accuracy = RunningMean(), RunningMean()
        self.train_loss.persistent(True)
        self.train_accuracy.persistent(True)
        # (Lightning's own mean over processes is wrong where their shares differ: it divides by a rounded count.)
        self.val_loss, self.val_accuracy = RunningMean(), RunningMean()
        self._val_embeddings: list[Tensor] = []

    def make_views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The two views of each volume of a batch, (batch, 1, z, y, x) each."""
        volume = batch["volume"].to(self.device, non_blocking=True)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):  # float32 inside mixed precision
            first, second = (
                self.views(volume, view_keys(self.seed, batch["epoch"], batch["draw"], view)) for view in (0, 1)
            )
        return first, second

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings of the two views of each volume, (batch, 2, embed_dim)."""

        def some(rows: slice) -> Tensor:
            views = self.make_views({key: batch[key][rows] for key in ("volume", "epoch", "draw")})
            return torch.stack(self.encoder(torch.cat(views)).chunk(2), dim=1)

        n_parts = n_micro_batches(batch["shares"], self.micro_batch_size)
        return in_micro_batches(some, len(batch["scan"]), n_parts, self.encoder)

    def loss(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and contrastive accuracy of the projections of a batch's views, (batch, width) each."""
        return nt_xent(first, second, batch["subject"], self.temperature, self.positives, batch["shares"])

    def contrast(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, contrastive accuracy, and the embeddings (batch, 2, embed_dim) of a batch."""
        if "shares" not in batch:
            batch = batch | {"shares": count_shares(len(batch["scan"]), self.device)}
        embedding = self.embed(batch)
        first, second = self.projector(embedding).unbind(1)
        return *self.loss(first, second, batch), embedding

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; logs the loss and how often a view's most similar key shows the same subject."""
        loss, accuracy, _ = self.contrast(batch)
        n = len(batch["scan"])
        self.train_loss.update(loss, n)
        self.train_accuracy.update(accuracy, n)
        self.log("train/loss", self.train_loss, prog_bar=True, on_epoch=True, on_step=False)
        self.log("train/contrastive_accuracy", self.train_accuracy, on_epoch=True, on_step=False)
        return weighted_for_ddp(loss, n, batch.get("shares"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on held-out subjects, with the same views every time (epoch 0's)."""
        loss, accuracy, embedding = self.contrast(batch)
        n = len(batch["scan"])
        self.val_loss.update(loss, n)
        self.val_accuracy.update(accuracy, n)
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.log("val/contrastive_accuracy", self.val_accuracy)
        self._val_embeddings.append(embedding[:, 0])

    def on_validation_epoch_end(self) -> None:
        """Log whether the representation collapses: the embeddings' spread and effective rank."""
        embedding, _ = gather_rows(torch.cat(self._val_embeddings).float())
        self._val_embeddings.clear()
        if len(embedding) < 2:
            return  # one scan has no spread
        direction = F.normalize(embedding, dim=1)
        # RankMe (Garrido et al. 2023): exp of the entropy of the normalised singular values.
        singular = torch.linalg.svdvals(embedding)
        p = singular / singular.sum().clamp(min=1e-12)
        self.log("val/rankme", torch.exp(-(p * (p + 1e-7).log()).sum()), sync_dist=True)
        self.log("val/embedding_sd", direction.std(dim=0).mean() * direction.shape[1] ** 0.5, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser over encoder and head."""
        return self.optimizer.build(self.parameters(), int(self.trainer.estimated_stepping_batches))
