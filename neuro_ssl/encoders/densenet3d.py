"""MONAI's 3D DenseNet as an encoder: Huang et al. 2017. DenseNet-121 is the network of y-Aware (Dufumier et al. 2021).

Differs from MONAI: no classifier, feature maps on request. Parameter names are MONAI's own.
"""

import math
from collections.abc import Sequence

from monai.networks.nets.densenet import DenseNet
from torch import nn

from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError


class DenseNet3D(Encoder, DenseNet):
    """3D DenseNet with global average pooling; DenseNet-121 has 1024 features.

    Args:
        block_config: layers of each dense block.
        growth_rate: channels that each layer adds.
        init_features: channels of the stem.
        checkpoint_stages: how many of the first stages (stem, then each dense block with its transition) keep no
            activations but compute them again in the backward pass: less memory, more time, the same gradients.

    Raises:
        InputError: no such number of stages.
    """

    def __init__(
        self,
        block_config: tuple[int, ...] = (6, 12, 24, 16),
        growth_rate: int = 32,
        init_features: int = 64,
        checkpoint_stages: int = 0,
    ) -> None:
        if not block_config or min(*block_config, growth_rate, init_features) < 1:
            raise InputError(
                "encoder.block_config, encoder.growth_rate and encoder.init_features must be at least 1, got "
                f"{list(block_config)}, {growth_rate} and {init_features}"
            )
        super().__init__(3, 1, 1, init_features, growth_rate, tuple(block_config))
        self.embed_dim = self.get_parameter("class_layers.out.weight").shape[1]
        del self.class_layers
        self.final_act = nn.ReLU(inplace=True)
        transitions = 2 ** (len(block_config) - 1)
        self.stride = (4 * transitions,) * 3
        # The stem rounds up, and pooling between the blocks down, so that 29 voxels are the least for four blocks.
        self.min_shape = (4 * (transitions - 1) + 1,) * 3
        self.recompute_first(checkpoint_stages)

    def stages(self) -> list[list[nn.Module]]:
        """Stem with pooling; each dense block with the transition, or at last the norm, that follows it."""
        stages: list[list[nn.Module]] = [[]]
        for name, module in self.features.named_children():
            if name.startswith("denseblock"):
                stages.append([])
            stages[-1].append(module)
        stages[-1].append(self.final_act)
        return stages

    def feature_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Shape (z, y, x) of the feature maps of a volume: ¼ of it, rounded up, then halved and rounded down."""
        depth, height, width = (math.ceil(n / 4) // (s // 4) for n, s in zip(shape, self.stride, strict=True))
        return depth, height, width
