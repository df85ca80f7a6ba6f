"""Grad-CAM (Selvaraju et al. 2017), by MONAI, with its maps put where the layer looks."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuro_ssl.encoders import Encoder
from neuro_ssl.errors import InputError
from neuro_ssl.explaining.method import Method, parts_of


@dataclass(frozen=True)
class GradientCAM(Method):
    """Grad-CAM, by MONAI: an inner layer's maps, weighted by how much each matters on the whole, where positive.

    Differs from MONAI: an element of the maps is put where its receptive field has its centre, not stretched to the
    volume's edges, which would move it by up to half the layer's stride (15 mm in the last layer of a ResNet at 1 mm).

    Args:
        layer: a stage of the encoder: −1, the last; −2, the one before; or 0, the first after the input.
    """

    layer: int = -1

    signed: ClassVar[bool] = False

    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """See `Method`."""
        from monai.visualize.class_activation_maps import GradCAM  # half a second to import

        # A copy, since MONAI leaves its hooks on the model.
        copied = _OneClass(copy.deepcopy(model))
        stage = self._stage(copied.model)
        name = next(name for name, module in copied.named_modules() if module is stage)
        method = GradCAM(copied, target_layers=name)
        compute: Callable[..., Tensor] = method.compute_map
        parts = [compute(part.requires_grad_(), class_idx=0).detach() for part in parts_of(inputs, batch_size)]
        return _placed(torch.cat(parts), inputs.shape[2:], model.encoder)  # type: ignore[arg-type]

    def check(self, model: nn.Module, shape: Sequence[int], spacing_mm: float) -> None:
        """See `Method`: an encoder with feature maps, and at least 2 elements along each axis."""
        stage, found = self._stage(model), []
        with stage.register_forward_hook(lambda _module, _inputs, output: found.append(output)), torch.no_grad():
            model(torch.zeros(1, 1, *shape, device=next(iter(model.state_dict().values())).device))
        if found[0].ndim != 5:
            raise InputError(
                f"grad_cam needs an encoder with feature maps, and {type(model.encoder).__name__} has tokens: take "
                "methods=[integrated_gradients], gradient_x_input or occlusion"
            )
        if min(found[0].shape[2:]) < 2:
            raise InputError(
                f"grad_cam.layer={self.layer} has maps of {'×'.join(map(str, found[0].shape[2:]))} elements, which "
                "show no place: choose an earlier layer or a finer grid"
            )

    def _stage(self, model: nn.Module) -> nn.Module:
        encoder = getattr(model, "encoder", None)
        if not isinstance(encoder, Encoder):
            raise InputError(
                f"grad_cam: {type(encoder or model).__name__} is no neuro_ssl.encoders.Encoder, whose layers could be "
                "chosen: take another method"
            )
        stages = encoder.stages()
        if not -len(stages) <= self.layer < len(stages):
            raise InputError(
                f"grad_cam.layer must be from {-len(stages)} to {len(stages) - 1} for {type(encoder).__name__}, got "
                f"{self.layer}"
            )
        return stages[self.layer][-1]


class _OneClass(nn.Module):
    """A model of one output as one of classes: (batch,) → (batch, 1)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, volume: Tensor) -> Tensor:
        return self.model(volume)[:, None]  # type: ignore[no-any-return]


def _placed(maps: Tensor, shape: Sequence[int], encoder: Encoder) -> Tensor:
    """Maps (batch, 1, z, y, x) as volumes of a shape, by linear interpolation between the centres of their elements.

    Along an axis, element j of a layer of stride s looks at voxels around s·j if padded convolutions made it (of n
    voxels ⌈n/s⌉ elements), and around s·j + (s − 1)/2 if it stands for a block of s voxels (⌊n/s⌋).
    """
    axes = []
    for axis, (n, n_elements) in enumerate(zip(shape, maps.shape[2:], strict=True)):
        whole = encoder.stride[axis]
        rounds_up = encoder.feature_shape([whole + 1] * 3)[axis] == 2
        divide = math.ceil if rounds_up else math.floor
        strides = [s for s in range(1, whole + 1) if whole % s == 0 and divide(n / s) == n_elements]
        stride = strides[0] if strides else n / n_elements
        element = (torch.arange(n, device=maps.device) - (0 if rounds_up else (stride - 1) / 2)) / stride
        axes.append(element.clamp(0, n_elements - 1) / max(1, n_elements - 1) * 2 - 1)
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).expand(len(maps), *shape, 3)
    return F.grid_sample(maps, points.to(maps.dtype), align_corners=True)
