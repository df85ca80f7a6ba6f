"""SFCN, the small fully convolutional network of Peng et al. 2021 (doi 10.1016/j.media.2020.101871).

Five blocks of 3³ convolution, batch norm, 2³ max pooling, ReLU, and a sixth of 1³ convolution, batch norm, ReLU.
Differs from the authors' code: average pooling over whatever size there is (there 5×6×5, of 160×192×160 voxels), and
neither dropout nor classifier, which are the task's. Parameter names are theirs, so that their weights fit.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError


class SFCN(Encoder):
    """Small fully convolutional network with global average pooling: 64 features, 3 M parameters.

    Args:
        channels: of each block; all but the last halve the maps.
        checkpoint_stages: how many of the first blocks keep no activations but compute them again in the backward
            pass: less memory, more time, the same gradients.

    Raises:
        InputError: no channels, or no such number of blocks.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256, 256, 64), checkpoint_stages: int = 0) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise InputError(f"encoder.channels must list a number for each block, got {list(channels)}")
        blocks = OrderedDict[str, nn.Module]()
        for i, (before, after) in enumerate(zip([1, *channels], channels, strict=False)):
            last = i == len(channels) - 1
            blocks[f"conv_{i}"] = nn.Sequential(
                nn.Conv3d(before, after, kernel_size=1 if last else 3, padding=0 if last else 1),
                nn.BatchNorm3d(after),
                *([] if last else [nn.MaxPool3d(2)]),
                nn.ReLU(inplace=True),
            )
        self.feature_extractor = nn.Sequential(blocks)
        self.embed_dim = channels[-1]
        self.stride = self.min_shape = (2 ** (len(channels) - 1),) * 3
        self.recompute_first(checkpoint_stages)

    def stages(self) -> list[list[nn.Module]]:
        """The blocks."""
        return [[block] for block in self.feature_extractor]

    def feature_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Shape (z, y, x) of the feature maps of a volume: pooling rounds down."""
        depth, height, width = (n // s for n, s in zip(shape, self.stride, strict=True))
        return depth, height, width
