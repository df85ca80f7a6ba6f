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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import captum.attr
import torch
from torch import Tensor, nn

from neuro_ssl.errors import InputError
from neuro_ssl.explaining.grad_cam import GradientCAM
from neuro_ssl.explaining.method import Method, parts_of
from neuro_ssl.explaining.output import background
from neuro_ssl.views.intensity import intensity_of


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Gradient × input, by captum. One backward pass a scan; noisy, and blind where the output saturates."""

    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """See `Method`."""
        method = captum.attr.InputXGradient(model)
        return torch.cat([method.attribute(part.requires_grad_()).detach() for part in parts_of(inputs, batch_size)])


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
            for one, absent in zip(parts_of(inputs, 1), parts_of(baseline, 1), strict=True)
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
        result = torch.zeros_like(inputs)
        for row, (one, absent) in enumerate(zip(parts_of(inputs, 1), parts_of(baseline, 1), strict=True)):
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

    def check(self, model: nn.Module, shape: Sequence[int], spacing_mm: float) -> None:
        """See `Method`: cubes that fit into the volume."""
        window, _ = self._voxels(spacing_mm)
        if window > min(shape):
            raise InputError(
                f"occlusion.window_mm={self.window_mm:g}: a cube of {window} voxels doesn't fit into "
                f"{'×'.join(map(str, shape))}; choose a smaller one"
            )

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
    method.check(model, inputs.shape[2:], spacing_mm)
    return method(model, inputs, baseline.expand_as(inputs), spacing_mm=spacing_mm, batch_size=batch_size)
