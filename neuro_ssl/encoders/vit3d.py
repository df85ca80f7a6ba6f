"""Vision transformer on 3D patches (Dosovitskiy et al. 2021), made to serve a masked autoencoder (He et al. 2022).

Blocks are torch's `TransformerEncoderLayer`, pre-norm, whose attention is `scaled_dot_product_attention`. (MONAI
1.6's `TransformerBlock` has it too, but also a norm for cross attention that it doesn't use: parameters without
gradients, which DDP refuses.) Differs from both papers: fixed 3D sine–cosine positions that are relative to the volume,
and by default the tokens' mean instead of a class token.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError

# Positions run from 0 to this along (z, y, x) over any volume: the patches of 150×192×192 voxels at 15×16×16, where
# they are therefore the whole numbers that sine–cosine positions are usually made of.
POSITIONS = (10, 12, 12)


def sincos_positions(
    shape: Sequence[int], patch_size: Sequence[int], width: int, device: torch.device | None = None
) -> Tensor:
    """Sine–cosine positions of the patches of a volume, by where in the volume their centres lie.

    The same place gets the same position in volumes of any size; another grid's are interpolated exactly.

    Args:
        shape: of the volume, in voxels along (z, y, x), without padding.
        patch_size: in voxels along (z, y, x).
        width: of the tokens, a multiple of 6.
        device: where to compute them.

    Returns:
        (patches, width), in float32, patches in the order of `ViT3D.patches`.
    """
    n_frequencies = width // 6
    frequencies = 10000.0 ** (-torch.arange(n_frequencies, device=device) / n_frequencies)
    axes = []
    for n, patch, span in zip(shape, patch_size, POSITIONS, strict=True):
        centre = (torch.arange(-(-n // patch), device=device) + 0.5) * (patch * span / n) - 0.5
        angle = centre[:, None] * frequencies
        axes.append(torch.cat([angle.sin(), angle.cos()], dim=1))
    z, y, x = axes
    size = (len(z), len(y), len(x), -1)
    parts = [z[:, None, None].expand(size), y[None, :, None].expand(size), x[None, None].expand(size)]
    return torch.cat(parts, dim=3).flatten(0, 2)


class ViT3D(Encoder):
    """Vision transformer; the tokens' mean is the features.

    Args:
        width: of the tokens, which is the number of features; a multiple of 6 and of `n_heads`.
        n_layers: transformer blocks.
        n_heads: attention heads of each.
        mlp_ratio: hidden width of each block's MLP, in units of `width`.
        patch_size: voxels along (z, y, x). A volume that it doesn't divide is padded at the end of each axis with 0,
            which is background.
        class_token: take a learned token's output for the features instead of the mean of the patches'.
        checkpoint_stages: how many of the first stages (patch embedding, then each block, then the norm) keep no
            activations but compute them again in the backward pass: less memory, more time, the same gradients.

    Raises:
        InputError: sizes that don't divide, or no such number of stages.
    """

    def __init__(
        self,
        width: int = 192,
        n_layers: int = 12,
        n_heads: int = 3,
        mlp_ratio: int = 4,
        patch_size: tuple[int, int, int] = (15, 16, 16),
        class_token: bool = False,
        checkpoint_stages: int = 0,
    ) -> None:
        super().__init__()
        if min(width, n_layers, n_heads, mlp_ratio, *patch_size) < 1:
            raise InputError(
                "encoder.width, encoder.n_layers, encoder.n_heads, encoder.mlp_ratio and encoder.patch_size must be at "
                f"least 1, got {width}, {n_layers}, {n_heads}, {mlp_ratio} and {list(patch_size)}"
            )
        if width % 6 or width % n_heads:
            raise InputError(f"encoder.width must be a multiple of 6 and of encoder.n_heads={n_heads}, got {width}")
        depth, height, width_x = patch_size
        self.embed_dim, self.stride = width, (depth, height, width_x)
        self.patch_embedding = nn.Linear(depth * height * width_x, width)
        # One axis, so that no weight decay is put on it, as on biases and norms.
        self.class_token = nn.Parameter(0.02 * torch.randn(width)) if class_token else None
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, n_heads, mlp_ratio * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)
        for module in self.modules():  # as the masked autoencoder's authors do
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.recompute_first(checkpoint_stages)

    def stages(self) -> list[list[nn.Module]]:
        """Patch embedding, each block, the last norm."""
        return [[self.patch_embedding], *([block] for block in self.blocks), [self.norm]]

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """As `Encoder.depth_groups`; the class token is with the patch embedding."""
        first, *later = super().depth_groups()
        return [[*first, *([] if self.class_token is None else [self.class_token])], *later]

    def patches(self, volume: Tensor) -> Tensor:
        """The volume cut into patches, padded at the end of each axis where the patch size doesn't divide it.

        Returns:
            (batch, patches, voxels of a patch); both in the order z, y, x, the last axis running fastest.
        """
        depth, height, width = (-n % p for n, p in zip(volume.shape[2:], self.stride, strict=True))
        padded = F.pad(volume, (0, width, 0, height, 0, depth))
        n_z, n_y, n_x = self.feature_shape(volume.shape[2:])
        p_z, p_y, p_x = self.stride
        cut = padded.reshape(volume.shape[0], n_z, p_z, n_y, p_y, n_x, p_x)
        return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(volume.shape[0], n_z * n_y * n_x, p_z * p_y * p_x)

    def forward_features(self, volume: Tensor, visible: Tensor | None = None) -> Tensor:
        """The patches' tokens after the last norm.

        Args:
            volume: (batch, 1, z, y, x).
            visible: (batch, n_visible), indices of the patches that the encoder is to see; the others are left out
                before anything is computed on them. By default all.

        Returns:
            (batch, patches or n_visible, embed_dim), in the order of `patches`, or of `visible`.

        Raises:
            InputError: a volume that the encoder doesn't accept.
        """
        return self._tokens(volume, visible)[:, 0 if self.class_token is None else 1 :]

    def forward(self, volume: Tensor, visible: Tensor | None = None) -> Tensor:
        """(batch, 1, z, y, x) → features (batch, embed_dim): the tokens' mean, or the class token.

        With `visible`: what `forward_features` returns, by a call of the module, and so compiled if the module is.
        """
        if visible is not None:
            return self.forward_features(volume, visible)
        tokens = self._tokens(volume, None)
        return tokens.mean(dim=1) if self.class_token is None else tokens[:, 0]

    def _tokens(self, volume: Tensor, visible: Tensor | None) -> Tensor:
        """(batch, tokens, embed_dim), the class token first, if there is one."""
        self.check_input(volume)
        patches = self.patches(volume)
        positions = sincos_positions(volume.shape[2:], self.stride, self.embed_dim, volume.device).to(volume.dtype)
        if visible is not None:
            patches = patches.gather(1, visible[:, :, None].expand(-1, -1, patches.shape[2]))
            positions = positions[visible]
        tokens = self.patch_embedding(patches) + positions
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], 1, -1), tokens], dim=1)
        return self._run(self.stages()[1:], tokens, self.checkpoint_stages - 1)
