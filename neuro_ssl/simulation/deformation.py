"""Where each voxel of a subject lies in the atlas: individual shape, head size and the effects that move tissue.

Displacements live on nodes 4 mm apart and are interpolated by uniform cubic B-splines, one axis after the other:
three small matrix products instead of a filter over the whole volume.
"""

import numpy as np
import numpy.typing as npt

from neuro_ssl.simulation.atlas import MEDIAL_TEMPORAL_SIGMA_MM, Array, Atlas
from neuro_ssl.simulation.effects import Effects
from neuro_ssl.simulation.phenotype import Phenotype

CENTRE_MM = (0.0, -18.0, 5.0)  # of head size: the middle of the brain
CONTROL_MM = (45.0, 18.0)  # spacing of the random control points of individual shape
FOLDS_CONTROL_MM = 9.0
_CEREBELLUM_MM, _CEREBELLUM_SIGMA_MM = (0.0, -62.0, -36.0), 26.0
_FRONTAL_MM, _FRONTAL_SIGMA_MM = (0.0, 42.0, 12.0), 28.0


def atlas_coordinates(
    atlas: Atlas,
    traits: Phenotype,
    effects: Effects,
    rng: np.random.Generator,
    shift_mm: npt.NDArray[np.float64],
) -> Array:
    """Atlas voxel coordinates (3, x, y, z) that each voxel of the subject's image shows.

    Args:
        atlas: whose grid is also the image's.
        traits: size of the planted effects.
        effects: size of individual shape.
        rng: of the subject's individual shape.
        shift_mm: where the image's grid lies on the head, (x, y, z).
    """
    axes = _node_axes_mm(atlas)
    shape = atlas.ventricle_push.shape[1:]
    displacement_mm: Array = np.zeros((3, *shape), dtype=np.float32)
    scales = list(zip(CONTROL_MM, effects.shape_mm, strict=True))
    if effects.folds_mm:
        scales.append((FOLDS_CONTROL_MM, effects.folds_mm))
    for control_mm, sd_mm in scales:
        displacement_mm += sd_mm * random_field(shape, control_mm / (atlas.spacing_mm * atlas.node_step), rng, (3,))

    # A voxel shows what lies against the displacement of tissue, hence the minus signs.
    displacement_mm -= traits.ventricle_mm * atlas.ventricle_push
    # The gradient of a Gaussian weight points to the hippocampus's axis: weight · offset = -sigma² · gradient.
    step = atlas.node_step
    towards_axis = np.asarray(
        np.gradient(atlas.medial_temporal[::step, ::step, ::step], step * atlas.spacing_mm), dtype=np.float32
    )
    displacement_mm -= traits.hippocampus_shrinkage * MEDIAL_TEMPORAL_SIGMA_MM**2 * towards_axis
    cerebellum = traits.cerebellum_stretch * _gaussian(axes, _CEREBELLUM_MM, _CEREBELLUM_SIGMA_MM)
    for axis, (node_mm, centre) in enumerate(zip(axes, _CEREBELLUM_MM, strict=True)):
        displacement_mm[axis] -= cerebellum * (node_mm - centre)
    displacement_mm[0] -= traits.frontal_stretch * _gaussian(axes, _FRONTAL_MM, _FRONTAL_SIGMA_MM) * axes[0]

    # Head size scales the finished shape, so that effects stay where they belong in a large or small head.
    positions = [
        (centre + (axis.ravel().astype(np.float64) + shift - centre) / traits.head_scale - axis.flat[0])
        / atlas.spacing_mm
        for axis, centre, shift in zip(atlas.axes_mm, CENTRE_MM, shift_mm, strict=True)
    ]
    coordinates = _interpolate(displacement_mm / np.float32(atlas.spacing_mm), [p / step for p in positions])
    for axis, position in enumerate(positions):
        coordinates[axis] += position.astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    return coordinates


def random_field(
    shape: tuple[int, ...], control_step: float, rng: np.random.Generator, channels: tuple[int, ...] = ()
) -> Array:
    """Smooth Gaussian noise of unit variance, (*channels, x, y, z).

    Args:
        shape: (x, y, z) in voxels.
        control_step: distance of control points in voxels; correlation reaches about twice as far.
        rng: where the control points come from.
        channels: leading axes, independent of each other.
    """
    control = [int(np.ceil(size / control_step)) + 3 for size in shape]
    values = rng.standard_normal((*channels, *control), dtype=np.float32)
    # The squares of a cubic B-spline's weights sum to 0.479 on average over positions.
    return _interpolate(values / np.float32(0.479**1.5), [np.arange(size) / control_step + 1 for size in shape])


def _interpolate(values: Array, positions: list[npt.NDArray[np.float64]]) -> Array:
    """Cubic B-spline with coefficients `values` (…, a, b, c) at the product of three lists of positions."""
    for axis, position in zip((-3, -2, -1), positions, strict=True):
        matrix = _cubic_b_spline(position[:, None] - np.arange(values.shape[axis]))
        values = np.moveaxis(np.moveaxis(values, axis, -1) @ matrix.T, -1, axis)
    return np.ascontiguousarray(values)


def _cubic_b_spline(distance: npt.NDArray[np.float64]) -> Array:
    t = np.abs(distance)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6).astype(np.float32)


def _node_axes_mm(atlas: Atlas) -> tuple[Array, Array, Array]:
    x, y, z = atlas.axes_mm
    step = atlas.node_step
    return x[::step], y[:, ::step], z[:, :, ::step]


def _gaussian(axes: tuple[Array, Array, Array], centre: tuple[float, float, float], sigma_mm: float) -> Array:
    squared = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return np.asarray(np.exp(-0.5 * squared / sigma_mm**2), dtype=np.float32)
