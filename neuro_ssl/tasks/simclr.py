"""SimCLR (Chen et al. 2020) on brain volumes, with the paper's head (Kaczmarek et al. 2025): 512 → 512 → 64.

Differs from the paper's code: views are made on the training device and never repeat, negatives come from all ranks
with their gradients, other scans of the same subject are no negatives, and a batch may be larger than what a device
holds (see `gradient_cache`).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.errors import InputError
from neuro_ssl.losses import nt_xent
from neuro_ssl.losses.contrastive import Positives
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.pretraining import Pretraining


class SimCLR(Pretraining):
    """Contrastive pretraining of an encoder.

    Args:
        encoder: see `Pretraining`, as the others.
        projector_dims: widths of the head's layers; ReLU between them, no biases, no norms.
        temperature: of NT-Xent.
        positives: augmentation: the other view of the anchor's scan, and other scans of its subject are left out;
            subject: those too.
    """

    n_views: ClassVar[int] = 2
    views_per_scan: ClassVar[int] = 2
    measures: ClassVar[tuple[str, ...]] = ("loss", "contrastive_accuracy")

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
        if views is None:
            raise InputError("views=none leaves SimCLR two equal views: choose views=standard or views=kaczmarek2025")
        super().__init__(encoder, views, optimizer, seed, micro_batch_size)
        if not temperature > 0:
            raise InputError(f"task.temperature must be positive, got {temperature}")
        self.temperature, self.positives = temperature, positives
        layers: list[nn.Module] = []
        width = int(encoder.embed_dim)  # type: ignore[arg-type]
        for i, dim in enumerate(projector_dims):
            layers += [nn.ReLU()] if i else []
            layers.append(nn.Linear(width, dim, bias=False))
            width = dim
        self.projector = nn.Sequential(*layers)

    def embed(self, batch: Batch) -> Tensor:
        """Embeddings of the two views of each volume, (batch, 2, embed_dim)."""

        def some(part: Batch) -> Tensor:
            return torch.stack(self.encoder(torch.cat(self.make_views(part))).chunk(2), dim=1)

        return self.in_micro_batches(some, batch)

    def loss(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and contrastive accuracy of the projections of a batch's views, (batch, width) each."""
        return nt_xent(first, second, batch["subject"], self.temperature, self.positives, batch["shares"])

    def contrast(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, contrastive accuracy, and the embeddings (batch, 2, embed_dim) of a batch."""
        batch = self.with_shares(batch)
        embedding = self.embed(batch)
        first, second = self.projector(embedding).unbind(1)
        return *self.loss(first, second, batch), embedding

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Loss, and how often a view's most similar key shows the same subject; embeddings of the first views."""
        loss, accuracy, embedding = self.contrast(batch)
        return {"loss": loss, "contrastive_accuracy": accuracy}, embedding[:, 0]
