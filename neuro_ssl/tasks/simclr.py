"""SimCLR (Chen et al. 2020) on brain volumes, with the paper's head (Kaczmarek et al. 2025): 512 → 512 → 64.

Differs from the paper's code: views are made on the training device and never repeat, negatives come from all ranks
with their gradients, other scans of the same subject are no negatives.
"""

from typing import Any, ClassVar

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.distributed import gather_rows, weighted_for_ddp
from neuro_ssl.errors import InputError
from neuro_ssl.losses import nt_xent
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.epoch_mean import EpochMean
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
    """

    stage: ClassVar[str] = "pretraining"
    # No validation score says which epoch's encoder will serve best: the last is kept.
    best: ClassVar[dict[str, Any]] = {}
    views_per_scan: ClassVar[int] = 2

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        projector_dims: tuple[int, ...] = (512, 64),
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        if views is None:
            raise InputError("views=none leaves SimCLR two equal views: choose views=standard or views=kaczmarek2025")
        if not temperature > 0:
            raise InputError(f"task.temperature must be positive, got {temperature}")
        self.encoder, self.views, self.optimizer, self.seed = encoder, views, optimizer, seed
        self.temperature = temperature
        layers: list[nn.Module] = []
        width = int(encoder.embed_dim)  # type: ignore[arg-type]
        for i, dim in enumerate(projector_dims):
            layers += [nn.ReLU()] if i else []
            layers.append(nn.Linear(width, dim, bias=False))
            width = dim
        self.projector = nn.Sequential(*layers)
        # Means of the epoch, in the checkpoint, so that a restart within an epoch keeps its first part.
        self.train_loss, self.train_accuracy = EpochMean(), EpochMean()
        self.train_loss.persistent(True)
        self.train_accuracy.persistent(True)
        # (Lightning's own mean over processes is wrong where their shares differ: it divides by a rounded count.)
        self.val_loss, self.val_accuracy = EpochMean(), EpochMean()
        self._val_embeddings: list[Tensor] = []

    def make_views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The two views of each volume of a batch, (batch, 1, z, y, x) each."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):  # float32 inside mixed precision
            first, second = (
                self.views(batch["volume"], view_keys(self.seed, batch["epoch"], batch["draw"], view))
                for view in (0, 1)
            )
        return first, second

    def contrast(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, contrastive accuracy, and the embeddings (2 × batch, embed_dim) of a batch."""
        embedding = self.encoder(torch.cat(self.make_views(batch)))
        first, second = self.projector(embedding).chunk(2)
        loss, accuracy = nt_xent(first, second, batch["subject"], self.temperature)
        return loss, accuracy, embedding

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; logs the loss and how often a view's partner is its most similar key."""
        loss, accuracy, _ = self.contrast(batch)
        n = len(batch["scan"])
        self.train_loss.update(loss.detach(), n)
        self.train_accuracy.update(accuracy, n)
        self.log("train/loss", self.train_loss, prog_bar=True, on_epoch=True, on_step=False)
        self.log("train/contrastive_accuracy", self.train_accuracy, on_epoch=True, on_step=False)
        return weighted_for_ddp(loss, n)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on held-out subjects, with the same views every time (epoch 0's)."""
        loss, accuracy, embedding = self.contrast(batch)
        n = len(batch["scan"])
        self.val_loss.update(loss, n)
        self.val_accuracy.update(accuracy, n)
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.log("val/contrastive_accuracy", self.val_accuracy)
        self._val_embeddings.append(embedding[:n])

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
