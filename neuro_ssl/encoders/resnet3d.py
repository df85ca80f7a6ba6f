"""MONAI's 3D ResNet as an encoder: He et al. 2016 in three dimensions, after Hara et al. 2018.

Differs from MONAI: no classifier, feature maps on request, the stem's stride and the width as plain options.
Parameter names are MONAI's own, and so those of the paper's published checkpoint.
"""

from typing import Any, Literal

from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

from neuro_ssl.errors import InputError


class ResNet3D(ResNet):
    """3D ResNet with global average pooling.

    Args:
        depth: 18 is the only depth so far.
        width: channels of the first stage; the features are 8 × as many (64 → 512).
        norm: `batch`, or `group` (8 groups: the same result for any batch and any number of processes).
        stem_stride: stride of the 7³ stem convolution. The paper uses MONAI's default of 1, which costs about
            8 times as much as 2: 1.33 TFLOP a volume forward at 150×192×192.
    """

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        norm: Literal["batch", "group"] = "batch",
        stem_stride: int = 2,
    ) -> None:
        if depth != 18:
            raise InputError(f"encoder.depth must be 18, got {depth}")
        if width < 8 or width % 8:
            raise InputError(f"encoder.width must be a positive multiple of 8, got {width}")
        self._norm = "batch" if norm == "batch" else ("group", {"num_groups": 8})
        super().__init__(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=[width, 2 * width, 4 * width, 8 * width],
            n_input_channels=1,
            conv1_t_size=7,
            conv1_t_stride=stem_stride,
            feed_forward=False,
            shortcut_type="B",
            bias_downsample=True,
            norm=self._norm,
        )
        self.embed_dim = 8 * width

    def _make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        # MONAI 1.6 hands `norm` to the stem alone; the stages would keep batch normalisation.
        return super()._make_layer(*args, **{**kwargs, "norm": self._norm})

    def forward_features(self, volume: Tensor) -> Tensor:
        """(batch, 1, depth, height, width) → feature maps (batch, embed_dim, d, h, w), axes in the input's order."""
        x: Tensor = self.maxpool(self.act(self.bn1(self.conv1(volume))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 1, depth, height, width) → features (batch, embed_dim), the maps' spatial mean."""
        return self.forward_features(volume).mean(dim=(2, 3, 4))
