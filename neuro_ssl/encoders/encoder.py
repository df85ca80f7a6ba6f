"""What all encoders have in common: the contract with the rest of the package, and stages from input to output.

A family's constructor registers its modules and sets `embed_dim` and `stride`. The stages are one declaration with
three uses: the forward pass, groups of parameters by depth, and which activations are computed again in the backward
pass instead of being kept (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuro_ssl.contract import Intensity
from neuro_ssl.distributed import NEEDS_GPUS
from neuro_ssl.encoders.recompute import recomputed
from neuro_ssl.errors import InputError


class Encoder(nn.Module):
    """A network from volumes to features.

    Accepts (batch, 1, z, y, x) in float32 (or under autocast) of any size from `min_shape` on. What the volumes must
    show, their spacing and orientation, is the weights' affair: `neuro_ssl.inference.InputContract`.

    Attributes:
        embed_dim: number of features.
        stride: voxels of the input to one element of the feature maps, along (z, y, x).
        min_shape: smallest volume that it accepts, in voxels along (z, y, x).
        checkpoint_stages: how many of the first stages keep no activations; see `recompute_first`.
        intensity: how a store's volumes are to be normalised for it; others' weights set their own.
    """

    embed_dim: int
    stride: tuple[int, int, int]
    min_shape: tuple[int, int, int] = (1, 1, 1)
    checkpoint_stages: int = 0
    intensity: Intensity = "z_score_brain"

    def stages(self) -> list[list[nn.Module]]:
        """The modules that a volume goes through, in order, grouped by depth; here each child module is a stage."""
        return [[child] for child in self.children()]

    def feature_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Shape (z, y, x) of the feature maps of a volume; here that of padded convolutions, which round up."""
        depth, height, width = (math.ceil(n / s) for n, s in zip(shape, self.stride, strict=True))
        return depth, height, width

    def forward_features(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → feature maps `(batch, embed_dim, *feature_shape)`, axes in the input's order.

        Raises:
            InputError: a volume that the encoder doesn't accept.
        """
        self.check_input(volume)
        return self._run(self.stages(), volume, self.checkpoint_stages)

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → features (batch, embed_dim), the maps' spatial mean."""
        return self.forward_features(volume).mean(dim=(2, 3, 4))

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Every parameter once, in groups from input to output: what layer-wise learning rates go by."""
        groups = [[p for module in stage for p in module.parameters()] for stage in self.stages()]
        return [group for group in groups if group]

    def recompute_first(self, n_stages: int) -> None:
        """In training, keep no activations of the first stages, whose maps are the largest.

        The backward pass computes them again, with equal gradients. What that saves: experiments/encoders.

        Args:
            n_stages: how many, of `stages()`.

        Raises:
            InputError: not a number of stages.
        """
        if not 0 <= n_stages <= len(self.stages()):
            raise InputError(f"encoder.checkpoint_stages must be from 0 to {len(self.stages())}, got {n_stages}")
        self.checkpoint_stages = n_stages

    def check_grid(self, shape: Sequence[int]) -> None:
        """Refuse volumes of a shape (z, y, x) that is too small for this encoder.

        Raises:
            InputError: naming both shapes.
        """
        if any(n < least for n, least in zip(shape, self.min_shape, strict=True)):
            raise InputError(
                f"{type(self).__name__} takes volumes of at least {'×'.join(map(str, self.min_shape))} voxels along "
                f"(z, y, x), got {'×'.join(map(str, shape))}: choose a finer grid or another encoder"
            )

    def check_input(self, volume: Tensor) -> None:
        """Refuse what this encoder cannot compute, before it tries.

        Raises:
            InputError: another number of axes or channels, too few voxels, or for batch norm too few values.
        """
        if volume.ndim != 5 or volume.shape[1] != 1:
            raise InputError(f"an encoder takes volumes (batch, 1, z, y, x), got the shape {tuple(volume.shape)}")
        self.check_grid(volume.shape[2:])
        values = volume.shape[0] * math.prod(self.feature_shape(volume.shape[2:]))
        # (SyncBatchNorm counts all processes' values, and is no BatchNorm3d.)
        if self.training and values == 1 and any(isinstance(module, nn.BatchNorm3d) for module in self.modules()):
            raise InputError(
                f"batch norm cannot train on a single volume of {'×'.join(map(str, volume.shape[2:]))} voxels, whose "
                "last maps have one voxel: take a batch of at least 2, a finer grid or an encoder without batch norm"
            )
        if (
            self.training
            and not volume.is_cuda
            and any(isinstance(module, nn.SyncBatchNorm) for module in self.modules())
        ):
            raise InputError(NEEDS_GPUS)

    def _run(self, stages: Sequence[Sequence[nn.Module]], x: Tensor, n_recomputed: int) -> Tensor:
        for index, stage in enumerate(stages):
            if index < n_recomputed and self.training and torch.is_grad_enabled():
                x = recomputed(stage, x)
            else:
                for module in stage:
                    x = module(x)
        return x
