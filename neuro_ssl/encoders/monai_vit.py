"""MONAI's 3D vision transformer as an encoder (Dosovitskiy et al. 2021), for others' weights such as BrainIAC's.

Learned positions tie it to one shape of volume; to train from scratch, take `vit3d`. Parameter names are MONAI's own.
Differs from MONAI: tokens are pooled to features; the norm for cross attention, which nothing uses, is left out, since
DDP refuses parameters without gradients.
"""

from collections.abc import Sequence
from typing import Literal

from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError


class MonaiViT(Encoder, ViT):
    """Vision transformer without a class token.

    Args:
        shape: of the volumes, in voxels along (z, y, x); a multiple of `patch_size`.
        patch_size: voxels along each axis.
        width: of the tokens, which is the number of features.
        n_layers: transformer blocks.
        n_heads: attention heads of each.
        mlp_width: hidden width of each block's MLP.
        pooling: features are the tokens' mean, or the first token alone: that of the patch at a corner.
        checkpoint_stages: how many of the first stages (patch embedding, then each block, then the norm) keep no
            activations but compute them again in the backward pass: less memory, more time, the same gradients.

    Raises:
        InputError: sizes that don't divide, another pooling, or no such number of stages.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (96, 96, 96),
        patch_size: int = 16,
        width: int = 768,
        n_layers: int = 12,
        n_heads: int = 12,
        mlp_width: int = 3072,
        pooling: Literal["mean", "first"] = "mean",
        checkpoint_stages: int = 0,
    ) -> None:
        if width % n_heads or any(n % patch_size for n in shape):
            raise InputError(
                f"encoder.width={width} must be a multiple of encoder.n_heads={n_heads}, and encoder.shape="
                f"{list(shape)} one of encoder.patch_size={patch_size}"
            )
        if pooling not in ("mean", "first"):
            raise InputError(f"encoder.pooling must be mean or first, got {pooling!r}")
        super().__init__(1, tuple(shape), (patch_size,) * 3, width, mlp_width, n_layers, n_heads)
        for block in self.blocks:
            del block.norm_cross_attn
        self.embed_dim, self.stride, self.pooling = width, (patch_size,) * 3, pooling
        self.min_shape = (shape[0], shape[1], shape[2])
        self.recompute_first(checkpoint_stages)

    def check_grid(self, shape: Sequence[int]) -> None:
        """Refuse volumes of any other shape (z, y, x) than the one that the positions were learned on.

        Raises:
            InputError: naming both shapes.
        """
        if tuple(shape) != self.min_shape:
            raise InputError(
                f"these weights take volumes of {'×'.join(map(str, self.min_shape))} voxels along (z, y, x) alone, got "
                f"{'×'.join(map(str, shape))}: preprocess to such a grid"
            )

    def forward_features(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → the patches' tokens after the last norm, (batch, patches, embed_dim)."""
        self.check_input(volume)
        return self._run(self.stages(), volume, self.checkpoint_stages)

    def stages(self) -> list[list[nn.Module]]:
        """Patch embedding, each block, the last norm."""
        return [[self.patch_embedding], *([block] for block in self.blocks), [self.norm]]

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → features (batch, embed_dim)."""
        tokens = self.forward_features(volume)
        return tokens.mean(dim=1) if self.pooling == "mean" else tokens[:, 0]
