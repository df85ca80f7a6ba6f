"""The masked autoencoder (He et al. 2022) around a token encoder: which patches are hidden, and the decoder.

Of MONAI 1.6's `MaskedAutoEncoderViT` this keeps the architecture and not the code: that one draws masks on the host
from torch's global generator, so that they depend on workers, ranks and restarts; its patch size must divide the volume
and its positions belong to one volume shape; and its encoder is part of it, where ours is any that SimCLR and the
downstream tasks use too. It has no loss.

Legend: B batch, N patches, P voxels of a patch, V visible patches, D embedding width, W decoder width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro_ssl.encoders.vit3d import ViT3D, sincos_positions
from neuro_ssl.errors import InputError
from neuro_ssl.losses import masked_reconstruction
from neuro_ssl.losses.masked_reconstruction import patch_statistics
from neuro_ssl.views.random import uniform


def draw_mask(keys_B2: Tensor, countable_BN: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Draw at random which patches the encoder sees and which are to be reconstructed.

    Of each sample, `round(mask_ratio × its countable patches)` are masked, exactly. The encoder sees the other
    countable ones, and as many of the rest as make n − round(mask_ratio × n) of all n patches: the same number in every
    sample, so that no sample's result depends on its batch. What is neither masked nor seen is left out of both. (So
    the encoder is shown the same share of the background as of the brain: it learns what background is, and isn't told
    by it where the brain ends.)

    Args:
        keys_B2: random keys, see `views.random`.
        countable_BN: boolean, the patches that may be masked.
        mask_ratio: share of the patches to mask.

    Returns:
        Indices of the visible patches (batch, visible), in random order, and a boolean (batch, patches): masked.

    Raises:
        InputError: so few patches that none would be masked, or none visible.
    """
    n = countable_BN.shape[1]
    n_hidden = round(mask_ratio * n)
    if not 0 < n_hidden < n:
        raise InputError(
            f"task.mask_ratio={mask_ratio:g} of {n} patches masks {n_hidden}, and at least 1 must be masked and 1 "
            "visible: take a finer grid, a smaller encoder.patch_size or another task.mask_ratio"
        )
    noise_BN = uniform(keys_B2, "mask", n)
    order_BN = torch.where(countable_BN, noise_BN - 1, noise_BN).argsort(dim=1, stable=True)  # countable ones first
    n_masked_B1 = (mask_ratio * countable_BN.sum(dim=1, keepdim=True).double()).round().long()
    position_1N = torch.arange(n, device=order_BN.device)[None]
    masked_BN = torch.zeros_like(countable_BN).scatter(1, order_BN, position_1N < n_masked_B1)
    return order_BN.gather(1, n_masked_B1 + position_1N[:, : n - n_hidden]), masked_BN


def unpatchify(patches_BNP: Tensor, patch_size: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Put patches together again: the inverse of `ViT3D.patches`.

    Args:
        patches_BNP: (batch, patches, voxels of a patch), both in the order z, y, x.
        patch_size: in voxels along (z, y, x).
        shape: of the volume in voxels along (z, y, x), without padding.

    Returns:
        (batch, 1, z, y, x).
    """
    n_z, n_y, n_x = (math.ceil(n / p) for n, p in zip(shape, patch_size, strict=True))
    p_z, p_y, p_x = patch_size
    parts = patches_BNP.reshape(-1, n_z, n_y, n_x, p_z, p_y, p_x).permute(0, 1, 4, 2, 5, 3, 6)
    padded = parts.reshape(-1, 1, n_z * p_z, n_y * p_y, n_x * p_x)
    return padded[:, :, : shape[0], : shape[1], : shape[2]]


@dataclass(frozen=True)
class Reconstruction:
    """What became of a batch of views.

    Attributes:
        loss: of each sample, (batch,).
        prediction: volumes (batch, 1, z, y, x), in the view's own intensities; with normalised patches, each has the
            mean and the standard deviation of the true one, which the decoder doesn't predict.
        masked: boolean volumes: the patches that count.
        hidden: boolean volumes: all that the encoder didn't see.
    """

    loss: Tensor
    prediction: Tensor
    masked: Tensor
    hidden: Tensor


class MaskedAutoencoder(nn.Module):
    """Hides patches of a view from an encoder, and decodes its tokens into them. Holds the decoder, not the encoder.

    Args:
        encoder: what it is for.
        mask_ratio: share of the patches to mask.
        foreground_only: only patches with brain are masked and count.
        normalise_patches: see `masked_reconstruction`.
        decoder_width: of the decoder's tokens, a multiple of 6 and of `decoder_heads`.
        decoder_layers: transformer blocks.
        decoder_heads: attention heads of each.

    Raises:
        InputError: an encoder without tokens, a ratio that is none, or sizes that don't divide.
    """

    def __init__(
        self,
        encoder: nn.Module,
        mask_ratio: float,
        foreground_only: bool,
        normalise_patches: bool,
        decoder_width: int,
        decoder_layers: int,
        decoder_heads: int,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, ViT3D):
            raise InputError(
                f"a masked autoencoder shows its encoder a part of the patches, which {type(encoder).__name__} can't "
                "leave out: choose encoder=vit_tiny, vit_small or vit_base"
            )
        if not 0 < mask_ratio < 1:
            raise InputError(f"task.mask_ratio must be in (0, 1), got {mask_ratio:g}")
        sizes = decoder_width, decoder_layers, decoder_heads
        if min(sizes) < 1 or decoder_width % 6 or decoder_width % decoder_heads:
            raise InputError(
                "task.decoder_width must be a multiple of 6 and of task.decoder_heads, and task.decoder_layers at "
                f"least 1; got {decoder_width}, {decoder_heads} and {decoder_layers}"
            )
        self.mask_ratio, self.foreground_only, self.normalise_patches = mask_ratio, foreground_only, normalise_patches
        self.patch_size, self.width = encoder.stride, decoder_width
        self.embedding = nn.Linear(encoder.embed_dim, decoder_width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(decoder_width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                *(decoder_width, decoder_heads, 4 * decoder_width),
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(decoder_layers)
        )
        self.norm = nn.LayerNorm(decoder_width)
        self.head = nn.Linear(decoder_width, math.prod(encoder.stride))
        for module in self.modules():  # as the authors do
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def decode(self, tokens_BVD: Tensor, visible_BV: Tensor, shape: Sequence[int]) -> Tensor:
        """Predict all patches of a volume of this shape (z, y, x) from the visible ones' tokens: (batch, N, P)."""
        embedded_BVW = self.embedding(tokens_BVD)
        positions_NW = sincos_positions(shape, self.patch_size, self.width, tokens_BVD.device)
        everywhere_BNW = self.mask_token.to(embedded_BVW.dtype).expand(len(tokens_BVD), len(positions_NW), -1)
        index_BVW = visible_BV[:, :, None].expand_as(embedded_BVW)
        x = everywhere_BNW.scatter(1, index_BVW, embedded_BVW) + positions_NW.to(tokens_BVD.dtype)
        for block in self.blocks:
            x = block(x)
        prediction_BNP: Tensor = self.head(self.norm(x))
        return prediction_BNP

    def losses(self, encoder: nn.Module, view: Tensor, keys_B2: Tensor) -> Tensor:
        """Loss of each sample, (batch,); see `reconstruct`."""
        return self._loss(*self._parts(encoder, view, keys_B2)[:3])

    @torch.no_grad()
    def reconstruct(self, encoder: nn.Module, view: Tensor, keys_B2: Tensor) -> Reconstruction:
        """Loss and pictures, for people to look at.

        Args:
            encoder: that the decoder was trained with.
            view: (batch, 1, z, y, x), background exactly 0.
            keys_B2: random keys of the masks, (batch, 2).
        """
        prediction_BNP, patches_BNP, masked_BN, visible_BV = self._parts(encoder, view, keys_B2)
        loss = self._loss(prediction_BNP, patches_BNP, masked_BN)
        if self.normalise_patches:
            mean, sd = patch_statistics(patches_BNP)
            prediction_BNP = prediction_BNP * sd + mean
        hidden_BN = torch.ones_like(masked_BN).scatter(1, visible_BV, False)
        whole = (prediction_BNP, *(chosen[:, :, None].expand_as(patches_BNP) for chosen in (masked_BN, hidden_BN)))
        return Reconstruction(loss, *(unpatchify(each, self.patch_size, view.shape[2:]) for each in whole))

    def _parts(self, encoder: nn.Module, view: Tensor, keys_B2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Prediction and truth (batch, N, P), what is masked (batch, N), which are visible (batch, V)."""
        assert isinstance(encoder, ViT3D)
        patches_BNP = encoder.patches(view)
        brain_BN = (patches_BNP != 0).any(dim=2)
        countable_BN = brain_BN if self.foreground_only else torch.ones_like(brain_BN)
        visible_BV, masked_BN = draw_mask(keys_B2, countable_BN, self.mask_ratio)
        tokens_BVD = encoder(view, visible_BV)
        return self.decode(tokens_BVD, visible_BV, view.shape[2:]), patches_BNP, masked_BN, visible_BV

    def _loss(self, prediction_BNP: Tensor, patches_BNP: Tensor, masked_BN: Tensor) -> Tensor:
        return masked_reconstruction(prediction_BNP, patches_BNP, masked_BN, self.normalise_patches)
