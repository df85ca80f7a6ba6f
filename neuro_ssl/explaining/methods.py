"""Attribution methods: how much each voxel of an input counts for the model's output.

    gradient_x_input      gradient × input (Shrikumar et al. 2016): a linear approximation at the scan itself
    integrated_gradients  Sundararajan et al. 2017: gradients averaged on the way from a baseline; the attributions add
                          up to the difference of the outputs
    occlusion             Zeiler & Fergus 2014: by how much the output falls when a cube is replaced by the baseline
    grad_cam              Selvaraju et al. 2017: where an inner layer's maps speak for a higher output; never negative

Positive means: raises the output. Attribution is to the encoder's input, normalised as in inference; how normalising
itself would change with a voxel is no part of it, nor is an occluded brain normalised again. The first two give exactly
0 to voxels that equal the baseline (which for the first is always 0), occlusion and Grad-CAM may give the background
something: their cubes and elements reach over the brain's edge.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import captum.attr
import torch
import torch.nn.functional as F
from monai.visualize.class_activation_maps import GradCAM
from torch import Tensor, nn

from neuro_ssl.encoders import Encoder
from neuro_ssl.errors import InputError
from neuro_ssl.explaining.output import background
from neuro_ssl.views.intensity import intensity_of


class Method(ABC):
    """An attribution method.

    Attributes:
        signed: whether attributions may be negative, which lowers the output.
        complete: whether they add up to the difference between the outputs of input and baseline.
        uses_baseline: whether the baseline matters.
    """

    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    uses_baseline: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """Attributions, of the shape of the inputs; see `attribution` for the arguments."""

    def check(self, model: nn.Module, shape: Sequence[int]) -> None:  # noqa: B027, most methods take any model
        """Refuse a model that this method cannot explain, before anything is computed.

        Args:
            model: see `attribution`.
            shape: of a volume, (z, y, x).

        Raises:
            InputError: saying why, and what can be done instead.
        """

    def unit(self, spacing_mm: float) -> str:
        """What an attribution belongs to, given the size of voxels."""
        return f"voxel of {spacing_mm:g} mm"


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Gradient × input, by captum. One backward pass a scan; noisy, and blind where the output saturates."""

    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """See `Method`."""
        method = captum.attr.InputXGradient(model)
        return torch.cat([method.attribute(part.requires_grad_()).detach() for part in _parts(inputs, batch_size)])


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients, by captum.

    Args:
        n_steps: points on the way from the baseline, at which the gradient is taken (Gauss–Legendre). Too few, and the
            attributions don't add up to what they explain, which is checked.

    Raises:
        InputError: no steps.
    """

    n_steps: int = 50

    complete: ClassVar[bool] = True
    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise InputError(f"integrated_gradients.n_steps must be at least 1, got {self.n_steps}")

    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """See `Method`."""
        method = captum.attr.IntegratedGradients(model)
        found = [
            method.attribute(one, absent, n_steps=self.n_steps, internal_batch_size=batch_size).detach()
            for one, absent in zip(_parts(inputs, 1), _parts(baseline, 1), strict=True)
        ]
        return torch.cat(found).to(inputs.dtype)


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion by cubes, by captum.

    A voxel's attribution is the mean, over the cubes that cover it, of output(scan) − output(scan without the cube).
    Cubes that hold nothing but the baseline change nothing and are passed over.

    Args:
        window_mm: edge of a cube.
        stride_mm: from one cube to the next; less than the edge, they overlap.

    Raises:
        InputError: a length that is none, or gaps between cubes.
    """

    window_mm: float = 24.0
    stride_mm: float = 12.0

    uses_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.stride_mm <= self.window_mm:
            raise InputError(
                "occlusion.stride_mm must be above 0 and at most occlusion.window_mm, or cubes would leave gaps; got "
                f"window_mm={self.window_mm:g} and stride_mm={self.stride_mm:g}"
            )

    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """See `Method`."""
        window, stride = self._voxels(spacing_mm)
        if window > min(inputs.shape[2:]):
            raise InputError(
                f"occlusion.window_mm={self.window_mm:g}: a cube of {window} voxels doesn't fit into "
                f"{'×'.join(map(str, inputs.shape[2:]))}; choose a smaller one"
            )
        result = torch.zeros_like(inputs)
        for row, (one, absent) in enumerate(zip(_parts(inputs, 1), _parts(baseline, 1), strict=True)):
            box = _box((one != absent)[0, 0], window, stride)

            def within(parts: Tensor, whole: Tensor = one, box: tuple[slice, slice, slice] = box) -> Tensor:
                volumes = whole.repeat(len(parts), 1, 1, 1, 1)
                volumes[:, :, *box] = parts
                return model(volumes)  # type: ignore[no-any-return]

            with torch.no_grad():
                result[row, :, *box] = captum.attr.Occlusion(within).attribute(
                    one[:, :, *box],
                    sliding_window_shapes=(1, window, window, window),
                    strides=(1, stride, stride, stride),
                    baselines=absent[:, :, *box],
                    perturbations_per_eval=batch_size,
                )[0]
        return result

    def unit(self, spacing_mm: float) -> str:
        """See `Method`."""
        return f"cube of {self._voxels(spacing_mm)[0] * spacing_mm:g} mm"

    def _voxels(self, spacing_mm: float) -> tuple[int, int]:
        """Window and stride."""
        return max(1, round(self.window_mm / spacing_mm)), max(1, round(self.stride_mm / spacing_mm))


def _box(differs: Tensor, window: int, stride: int) -> tuple[slice, slice, slice]:
    """The part of a volume that holds every cube with something in it, beginning where a cube begins."""
    box = []
    for axis, size in enumerate(differs.shape):
        places = differs.amax(dim=[other for other in range(3) if other != axis]).nonzero()
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, window - 1)
        start = max(0, math.ceil((first - window + 1) / stride) * stride)
        stop = min(size, last // stride * stride + window)
        box.append(slice(min(start, size - window), stop))
    z, y, x = box
    return z, y, x


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
        # A copy, since MONAI leaves its hooks on the model.
        copied = _OneClass(copy.deepcopy(model))
        stage = self._stage(copied.model)
        name = next(name for name, module in copied.named_modules() if module is stage)
        method = GradCAM(copied, target_layers=name)
        compute: Callable[..., Tensor] = method.compute_map
        parts = [compute(part.requires_grad_(), class_idx=0).detach() for part in _parts(inputs, batch_size)]
        return _placed(torch.cat(parts), inputs.shape[2:], model.encoder)  # type: ignore[arg-type]

    def check(self, model: nn.Module, shape: Sequence[int]) -> None:
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


def _parts(inputs: Tensor, batch_size: int) -> list[Tensor]:
    """Some inputs at a time, free to carry gradients."""
    return [inputs[start : start + batch_size].detach().clone() for start in range(0, len(inputs), batch_size)]


METHODS: dict[str, type[Method]] = {
    "gradient_x_input": GradientTimesInput,
    "integrated_gradients": IntegratedGradients,
    "occlusion": Occlusion,
    "grad_cam": GradientCAM,
}


def attribution(
    method: Method | str,
    model: nn.Module,
    inputs: Tensor,
    *,
    baseline: Tensor | None = None,
    spacing_mm: float = 1.0,
    batch_size: int = 8,
) -> Tensor:
    """How much each voxel counts for the model's output.

    Args:
        method: with its settings, or the name of one with its defaults: a key of `METHODS`.
        model: inputs → (batch,), in evaluation mode; for Grad-CAM an `output.Explained`.
        inputs: (batch, 1, z, y, x), normalised as the encoder expects (`views.intensity.normalise`).
        baseline: what stands for absence, the inputs' shape; by default background, see `output.background`.
        spacing_mm: of the voxels.
        batch_size: volumes that the model is given at once.

    Returns:
        (batch, 1, z, y, x), in units of the output a voxel; Grad-CAM's have no unit, and occlusion's are those of a
        cube.

    Raises:
        InputError: an unknown method, or a model that it cannot explain.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise InputError(f"methods: {method!r} is none of {', '.join(METHODS)}")
        method = METHODS[method]()
    if baseline is None:
        baseline = background(inputs, intensity_of(model))
    method.check(model, inputs.shape[2:])
    return method(model, inputs, baseline.expand_as(inputs), spacing_mm=spacing_mm, batch_size=batch_size)
