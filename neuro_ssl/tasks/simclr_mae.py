"""SimCLR and a masked autoencoder on one encoder: which scan is it, and what do its hidden patches look like?

Contrastive features serve classification and reconstruction serves dense tasks; hybrids of the two did best at
classification in the FOMO25 challenge. Both views of a scan are contrasted whole and reconstructed from their visible
patches.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.errors import InputError
from neuro_ssl.losses.contrastive import Positives
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.masked_autoencoder import MaskedAutoencoder, Reconstruction
from neuro_ssl.tasks.simclr import SimCLR


class SimCLRMAE(SimCLR):
    """Contrastive pretraining and reconstruction at once.

    Args:
        encoder: a `ViT3D`; for what is not named here see `SimCLR` and `MAE`.
        contrastive_weight: of NT-Xent in the loss.
        reconstruction_weight: of the reconstruction in the loss.
    """

    measures: ClassVar[tuple[str, ...]] = ("loss", "contrastive_loss", "contrastive_accuracy", "reconstruction_loss")

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        contrastive_weight: float = 1.0,
        reconstruction_weight: float = 1.0,
        projector_dims: tuple[int, ...] = (512, 64),
        temperature: float = 0.5,
        positives: Positives = "augmentation",
        mask_ratio: float = 0.75,
        foreground_only: bool = False,
        normalise_patches: bool = True,
        decoder_width: int = 96,
        decoder_layers: int = 4,
        decoder_heads: int = 3,
        micro_batch_size: int | None = None,
    ) -> None:
        super().__init__(encoder, views, optimizer, seed, projector_dims, temperature, positives, micro_batch_size)
        if not (contrastive_weight > 0 and reconstruction_weight > 0):
            raise InputError(
                "task.contrastive_weight and task.reconstruction_weight must be positive, got "
                f"{contrastive_weight:g} and {reconstruction_weight:g}; for one of the two: task=simclr or task=mae"
            )
        self.contrastive_weight, self.reconstruction_weight = contrastive_weight, reconstruction_weight
        sizes = decoder_width, decoder_layers, decoder_heads
        self.autoencoder = MaskedAutoencoder(encoder, mask_ratio, foreground_only, normalise_patches, *sizes)

    def measure(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The weighted loss and its parts; embeddings of the first views."""
        batch = self.with_shares(batch)

        def some(part: Batch) -> Tensor:
            views, keys = torch.cat(self.make_views(part)), torch.cat(self.keys(part))
            loss = self.autoencoder.losses(self.encoder, views, keys)[:, None]
            return torch.stack(torch.cat([loss, self.encoder(views)], dim=1).chunk(2), dim=1)

        rows = self.in_micro_batches(some, batch)
        reconstruction, embedding = rows[:, :, 0].mean(), rows[:, :, 1:]
        first, second = self.projector(embedding).unbind(1)
        contrastive, accuracy = self.loss(first, second, batch)
        measured = {
            "loss": self.contrastive_weight * contrastive + self.reconstruction_weight * reconstruction,
            "contrastive_loss": contrastive,
            "contrastive_accuracy": accuracy,
            "reconstruction_loss": reconstruction,
        }
        return measured, embedding[:, 0]

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """The first views (batch, 1, z, y, x) of a batch, and what becomes of them."""
        view, keys = self.make_views(batch)[0], self.keys(batch)[0]
        return view, self.autoencoder.reconstruct(self.encoder, view, keys)
