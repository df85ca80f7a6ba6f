"""Masked autoencoder (He et al. 2022) on brain volumes: the encoder sees a quarter of a view's patches, and a light
decoder reconstructs the others. The paper (Kaczmarek et al. 2025) compares with one, whose settings are unknown.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.masked_autoencoder import MaskedAutoencoder, Reconstruction
from neuro_ssl.tasks.pretraining import Pretraining


class MAE(Pretraining):
    """Pretraining of a token encoder by reconstruction.

    Args:
        encoder: a `ViT3D`; for the others see `Pretraining`.
        mask_ratio: share of the patches that are masked.
        foreground_only: only patches with brain are masked and count; else all do.
        normalise_patches: reconstruct each patch with mean 0 and variance 1, so that predicting its mean costs 1.
        decoder_width: of the decoder's tokens.
        decoder_layers: transformer blocks of the decoder.
        decoder_heads: attention heads of each.
    """

    n_views: ClassVar[int] = 1
    views_per_scan: ClassVar[int] = 0
    measures: ClassVar[tuple[str, ...]] = ("loss",)
    # Tokens' means share most of their direction, and nothing pushes them apart, without that reconstruction suffers.
    likeness_warns: ClassVar[bool] = False

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        mask_ratio: float = 0.75,
        foreground_only: bool = False,
        normalise_patches: bool = True,
        decoder_width: int = 96,
        decoder_layers: int = 4,
        decoder_heads: int = 3,
        micro_batch_size: int | None = None,
    ) -> None:
        super().__init__(encoder, views, optimizer, seed, micro_batch_size)
        sizes = decoder_width, decoder_layers, decoder_heads
        self.autoencoder = MaskedAutoencoder(encoder, mask_ratio, foreground_only, normalise_patches, *sizes)

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Loss, and in evaluation mode the embeddings of the whole views."""
        batch = self.with_shares(batch)

        def some(part: Batch) -> Tensor:
            (view,), (keys,) = self.make_views(part), self.keys(part)
            loss = self.autoencoder.losses(self.encoder, view, keys)[:, None]
            return loss if self.training else torch.cat([loss, self.encoder(view)], dim=1)

        rows = self.in_micro_batches(some, batch)
        return {"loss": rows[:, 0].mean()}, rows[:, 1:]

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """The views (batch, 1, z, y, x) of a batch, and what becomes of them."""
        (view,), (keys,) = self.make_views(batch), self.keys(batch)
        return view, self.autoencoder.reconstruct(self.encoder, view, keys)
