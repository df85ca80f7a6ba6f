"""MONAI's 3D ResNet as an encoder: He et al. 2016 in three dimensions, after Hara et al. 2018.

Differs from MONAI: no classifier, feature maps on request, the stem's stride and the width as plain options, and
shortcuts by convolution (with bias) at every depth. Parameter names are MONAI's own, and so those of the paper's
published checkpoint.
"""

from typing import Any, Literal

from monai.networks.nets.resnet import ResNet
from torch import nn

from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError

# depth: kind of block, and how many in each of the four stages (He et al. 2016, Table 1; 10: as MONAI)
BLOCKS = {
    10: ("basic", [1, 1, 1, 1]),
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
    101: ("bottleneck", [3, 4, 23, 3]),
    152: ("bottleneck", [3, 8, 36, 3]),
    200: ("bottleneck", [3, 24, 36, 3]),
}


class ResNet3D(Encoder, ResNet):
    """3D ResNet with global average pooling.

    Args:
        depth: 10, 18, 34, 50, 101, 152 or 200.
        width: channels of the first stage; the features are 8 × as many (64 → 512), from depth 50 on 32 × (2048).
        norm: `batch`, or `group` (8 groups: the same result for any batch and any number of processes).
        stem_stride: stride of the 7³ stem convolution. The paper uses MONAI's default of 1, which costs about
            8 times as much as 2: 1.33 TFLOP a volume forward at 150×192×192.
        checkpoint_stages: how many of the first stages (stem, then the four) keep no activations but compute them
            again in the backward pass: less memory, more time, the same gradients.

    Raises:
        InputError: another depth, a width that the norm cannot group, a stride below 1, or no such number of stages.
    """

    _shortcut, _shortcut_bias = "B", True

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: int = 2,
        checkpoint_stages: int = 0,
    ) -> None:
        if depth not in BLOCKS:
            raise InputError(f"encoder.depth must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
        if width < 8 or width % 8:
            raise InputError(f"encoder.width must be a positive multiple of 8, got {width}")
        if stem_stride < 1:
            raise InputError(f"encoder.stem_stride must be at least 1, got {stem_stride}")
        self._norm = "batch" if norm == "batch" else ("group", {"num_groups": 8})
        block, layers = BLOCKS[depth]
        super().__init__(
            block=block,
            layers=layers,
            block_inplanes=[width, 2 * width, 4 * width, 8 * width],
            n_input_channels=1,
            conv1_t_size=7,
            conv1_t_stride=stem_stride,
            feed_forward=False,
            shortcut_type=self._shortcut,
            bias_downsample=self._shortcut_bias,
            norm=self._norm,
        )
        self.embed_dim = 8 * width * (4 if block == "bottleneck" else 1)
        self.stride = (16 * stem_stride,) * 3  # of the stem, its pooling and three of the stages
        self.recompute_first(checkpoint_stages)

    def _make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        # MONAI 1.6 hands `norm` to the stem alone; the stages would keep batch normalisation.
        return super()._make_layer(*args, **{**kwargs, "norm": self._norm})

    def stages(self) -> list[list[nn.Module]]:
        """Stem with pooling, and the four stages of residual blocks."""
        # MONAI pools after the activation. The two commute, and this way round the backward pass of the activation
        # doesn't work on the largest maps: the same numbers from less memory.
        stem = [self.conv1, self.bn1, self.maxpool, self.act]
        return [stem, [self.layer1], [self.layer2], [self.layer3], [self.layer4]]
