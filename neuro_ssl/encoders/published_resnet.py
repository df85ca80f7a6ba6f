"""3D ResNets of others whose shortcuts or strides differ from ours: MONAI's other variants, and MedicalNet's.

MedicalNet (Chen et al. 2019, Med3D) keeps its last two stages at the second one's resolution and dilates their
convolutions by 2 and 4 instead. Parameter names are MONAI's, which are MedicalNet's too.
"""

from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError


class PublishedResNet3D(ResNet3D):
    """ResNet3D with the options that others' weights need.

    Args:
        depth: as in ResNet3D.
        width: as in ResNet3D.
        stem_stride: as in ResNet3D.
        shortcut: where channels or resolution change: `B`, a 1³ convolution, or `A`, subsampling and zero channels.
        shortcut_bias: whether those convolutions have a bias.
        dilated: last two stages of stride 1, with dilations 2 and 4, as MedicalNet's.
        checkpoint_stages: as in ResNet3D.

    Raises:
        InputError: another shortcut, or as ResNet3D.
    """

    def __init__(
        self,
        depth: int = 18,
        width: int = 64,
        stem_stride: int = 1,
        shortcut: Literal["A", "B"] = "B",
        shortcut_bias: bool = True,
        dilated: bool = False,
        checkpoint_stages: int = 0,
    ) -> None:
        if shortcut not in ("A", "B"):
            raise InputError(f"encoder.shortcut must be A or B, got {shortcut!r}")
        self._shortcut, self._shortcut_bias = shortcut, shortcut_bias
        super().__init__(depth, width, "batch", stem_stride, checkpoint_stages)
        if dilated:
            for stage, dilation in ((self.layer3, 2), (self.layer4, 4)):
                _dilate(stage, dilation)
            self.stride = (4 * stem_stride,) * 3

    def _downsample_basic_block(self, x: Tensor, planes: int, stride: int, spatial_dims: int = 3) -> Tensor:
        # As MONAI's, except that gradients pass.
        x = x[:, :, ::stride, ::stride, ::stride]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, planes - x.shape[1]))


def _dilate(stage: nn.Module, dilation: int) -> None:
    """Turn a stage's stride into dilation."""
    for module in stage.modules():
        if isinstance(module, nn.Conv3d):
            module.stride = (1, 1, 1)
            if module.kernel_size == (3, 3, 3):
                module.dilation = module.padding = (dilation,) * 3
        shortcut: Any = getattr(module, "downsample", None)
        if isinstance(shortcut, partial):
            module.downsample = partial(shortcut.func, **{**shortcut.keywords, "stride": 1})  # type: ignore[assignment]
