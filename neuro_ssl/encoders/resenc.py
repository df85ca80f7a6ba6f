"""The residual encoder of nnU-Net ResEnc-L (Isensee et al. 2024), which OpenMind (Wald et al. 2024) pretrains.

From the package dynamic-network-architectures, an extra: `pip install 'neuro_ssl[resenc]'`. Differs from nnU-Net: no
decoder, global average pooling, and volumes of any size, padded with background. Parameter names are those of its
`ResidualEncoderUNet`, and so those of OpenMind's checkpoints.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError


class ResEnc(Encoder):
    """Residual encoder with instance norm and global average pooling: 320 features.

    Each stage but the first halves the maps; convolutions round up there and shortcuts down, so that a volume is padded
    at the end of each axis, with 0, to a multiple of `stride`. Instance norm sees that padding.

    Args:
        features: channels of each stage.
        blocks: residual blocks of each stage.
        checkpoint_stages: how many of the first stages (stem, then these) keep no activations but compute them again
            in the backward pass: less memory, more time, the same gradients.

    Raises:
        InputError: the package is not installed, lists of different lengths, or no such number of stages.
    """

    def __init__(
        self,
        features: tuple[int, ...] = (32, 64, 128, 256, 320, 320),
        blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6),
        checkpoint_stages: int = 0,
    ) -> None:
        super().__init__()
        try:
            from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
            from dynamic_network_architectures.initialization.weight_init import (
                InitWeights_He,
                init_last_bn_before_add_to_0,
            )
        except ModuleNotFoundError as error:
            raise InputError(f"{error}, which this encoder is made of: pip install 'neuro_ssl[resenc]'") from error
        if len(features) != len(blocks) or not features or min(*features, *blocks) < 1:
            raise InputError(
                "encoder.features and encoder.blocks must list a number for each stage, got "
                f"{list(features)} and {list(blocks)}"
            )
        self.encoder = ResidualEncoder(
            input_channels=1,
            n_stages=len(features),
            features_per_stage=list(features),
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=[1, *[2] * (len(features) - 1)],
            n_blocks_per_stage=list(blocks),
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        self.encoder.apply(InitWeights_He(1e-2))
        self.encoder.apply(init_last_bn_before_add_to_0)
        self.embed_dim = features[-1]
        self.stride = (2 ** (len(features) - 1),) * 3
        # Instance norm needs more than one voxel in the last maps.
        self.min_shape = (self.stride[0] + 1,) * 3
        self.recompute_first(checkpoint_stages)

    def stages(self) -> list[list[nn.Module]]:
        """Stem, then nnU-Net's stages."""
        return [[self.encoder.stem], *([stage] for stage in self.encoder.stages)]

    def forward_features(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → feature maps (batch, embed_dim, *feature_shape) of the padded volume."""
        self.check_input(volume)
        depth, height, width = (-n % s for n, s in zip(volume.shape[2:], self.stride, strict=True))
        padded = F.pad(volume, (0, width, 0, height, 0, depth))
        return self._run(self.stages(), padded, self.checkpoint_stages)
