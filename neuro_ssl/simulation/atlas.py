"""The anatomy that every subject derives from: ICBM 152 (2009a, symmetric; Fonov et al. 2011) inside a head.

The T1, grey- and white-matter maps come with nilearn, skull-stripped; skull, scalp, face and neck around them are
drawn from distances to the brain. All maps share one RAS grid, array axes (x, y, z), at the spacing asked for.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

Array = npt.NDArray[np.float32]

# (x, y, z) in MNI space: a head with 8 % to spare.
FIELD_OF_VIEW_MM = ((-96.0, 96.0), (-130.0, 104.0), (-104.0, 108.0))
MEDIAL_TEMPORAL_SIGMA_MM = 11.0

_TEMPLATE_BOTTOM_MM = -72.0  # the template is cut here; brain stem and neck go on below

_SKULL_MM = (1.0, 8.0)  # from the brain's envelope to the outer table
_HEAD_MM = 13.0  # from the envelope to the skin
# Face, neck and their cavities: centre and half axes in mm, and relative intensity. Air is 0, muscle 0.45.
_SOFT_TISSUE = [((0, 15, -55), (55, 45, 45)), ((0, 48, -62), (60, 48, 58)), ((0, -38, -95), (62, 62, 70))]
_CAVITIES = [
    ((33, 66, -36), (12, 12, 12), 0.15),  # eyes
    ((-33, 66, -36), (12, 12, 12), 0.15),
    ((0, 66, -64), (13, 22, 20), 0.02),  # nose and sinuses
    ((0, 12, -92), (13, 12, 30), 0.02),  # throat
]


@dataclass(frozen=True)
class Atlas:
    """Maps on one grid, each (x, y, z) and float32 unless said otherwise.

    Attributes:
        affine: voxel indices to RAS mm.
        brain: bool, the brain with the cerebrospinal fluid in and around it.
        depth_mm: distance inside the brain's envelope, negative outside.
        gm, wm: tissue probabilities.
        detail: what the template's T1 shows beyond its tissue classes, white matter being about 1.
        non_brain: intensity of skull, scalp, face and neck, white matter being 1.
        cortex_mm: depth below the brain's surface, sulci included; beyond ±4 it saturates. Far from the
            surface and at the ventricles 4, so that ageing leaves these alone.
        medial_temporal: weight in 0..1 around the hippocampi, a Gaussian of the distance to their axes.
        horn_axis_mm: distance to the axes of the temporal horns, which the template's average has closed.
        outside_ventricles_mm: distance to the walls of the lateral and third ventricles, negative inside them.
        node_step: every how many voxels displacements are defined; they are smooth, 4 mm suffice.
        ventricle_push: (3, x, y, z), vectors away from the ventricles, 1 long at their walls and fading over
            10 mm, as cubic B-spline coefficients on the nodes.
    """

    affine: npt.NDArray[np.float64]
    brain: npt.NDArray[np.bool_]
    depth_mm: Array
    gm: Array
    wm: Array
    detail: Array
    non_brain: Array
    cortex_mm: Array
    medial_temporal: Array
    horn_axis_mm: Array
    outside_ventricles_mm: Array
    node_step: int
    ventricle_push: Array

    @property
    def spacing_mm(self) -> float:
        """Isotropic voxel size."""
        return float(self.affine[0, 0])

    @property
    def axes_mm(self) -> tuple[Array, Array, Array]:
        """World coordinates (x, y, z) in mm along each array axis, shaped to broadcast."""
        return _axes_mm(self.affine, self.brain.shape)


@lru_cache(maxsize=1)  # several cohorts of one spacing
def load_atlas(spacing_mm: float) -> Atlas:
    """Build the atlas from the maps inside nilearn's wheel (4 s, offline).

    Args:
        spacing_mm: isotropic voxel size of all maps.
    """
    # Late: a pool's workers import this module to unpickle an atlas and would each pay 2.5 s for nilearn.
    from nilearn import datasets

    t1, gm, wm, mask = (
        load(resolution=1)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_brain_mask,
        )
    )
    shape = tuple(round((high - low) / spacing_mm) for low, high in FIELD_OF_VIEW_MM)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [low + spacing_mm / 2 for low, _ in FIELD_OF_VIEW_MM]
    x, y, z = axes = _axes_mm(affine, shape)

    t1, gm, wm, mask = (_resample(image, affine, shape) for image in (t1, gm, wm, mask))
    below_template = z < _TEMPLATE_BOTTOM_MM
    # Closing by 6 mm fills the sulci: the envelope is what the skull sees.
    grown = ndimage.distance_transform_edt(mask < 0.5) * spacing_mm < 6
    envelope = ndimage.distance_transform_edt(grown) * spacing_mm > 6
    depth = _signed_distance(envelope, spacing_mm)
    brain = (depth > 0) & ~below_template
    csf = np.clip(1 - gm - wm, 0, 1) * (depth > 0)

    # Least squares gives the template's own tissue intensities; the rest is anatomy the classes don't hold.
    inside = depth > 3
    classes = np.stack([csf[inside], gm[inside], wm[inside]], axis=1)
    intensities = np.linalg.lstsq(classes, t1[inside], rcond=None)[0]
    fitted = csf * intensities[0] + gm * intensities[1] + wm * intensities[2]
    detail = (t1 - fitted) / intensities[2] * np.clip((depth - 2) / 4, 0, 1)

    # The ventricles are the fluid deep inside, without the cisterns behind and below the midline.
    deep_fluid = (csf > 0.5) & (depth > 18) & ~((np.abs(x) < 14) & (y < -36)) & (z > -8) & (np.abs(x) < 36)
    outside_mm = -_signed_distance(_touching(deep_fluid, x, y, z), spacing_mm)
    gradient = np.asarray(np.gradient(ndimage.gaussian_filter(outside_mm, 2 / spacing_mm), spacing_mm))
    # From nothing at the ventricle's middle to all 6 mm outside: walls move without the inside folding over.
    strength = np.clip((outside_mm + 4) / 10, 0, 1) * np.exp(-np.maximum(outside_mm - 6, 0) / 10)
    push = gradient / np.maximum(np.linalg.norm(gradient, axis=0), 0.5) * strength

    # A surface blurred with sigma = 2 mm crosses probability Φ(depth / 2 mm): its inverse is a smooth depth.
    blurred = ndimage.gaussian_filter(gm + wm, 2 / spacing_mm)
    cortex = 2 * special.ndtri(np.clip(blurred, 0.023, 0.977))
    near_surface = np.clip((40 - depth) / 10, 0, 1) * np.clip((outside_mm - 5) / 5, 0, 1)
    cortex = 4 + (cortex - 4) * near_surface

    hippocampus_mm = _distance_to_segment(axes, (25, -8, -22), (28, -34, -8))
    medial_temporal = np.exp(-0.5 * (hippocampus_mm / MEDIAL_TEMPORAL_SIGMA_MM) ** 2)
    node_step = max(1, round(4 / spacing_mm))
    maps = {
        "depth_mm": depth,
        "gm": gm,
        "wm": wm,
        "detail": detail,
        "non_brain": _draw_head(axes, depth, spacing_mm),
        "cortex_mm": cortex,
        "medial_temporal": medial_temporal,
        "horn_axis_mm": _distance_to_segment(axes, (33, -6, -18), (36, -36, -7)),
        "outside_ventricles_mm": outside_mm,
        "ventricle_push": np.stack([ndimage.spline_filter(p[::node_step, ::node_step, ::node_step]) for p in push]),
    }
    return Atlas(
        affine=affine,
        brain=brain,
        node_step=node_step,
        **{name: np.asarray(a, dtype=np.float32) for name, a in maps.items()},
    )


def _axes_mm(affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    x, y, z = (
        (affine[axis, 3] + affine[axis, axis] * np.arange(size)).astype(np.float32) for axis, size in enumerate(shape)
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _resample(image: Any, affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Array:
    """An axis-aligned RAS image onto the atlas grid; its last slices continue beyond its own field of view."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    ratio = affine[0, 0] / image.affine[0, 0]
    if ratio > 1:  # keep fine folds from aliasing
        data = ndimage.gaussian_filter(data, 0.4 * ratio)
    offset = (affine[:3, 3] - image.affine[:3, 3]) / np.diag(image.affine)[:3]
    out: Array = ndimage.affine_transform(data, [ratio] * 3, offset, output_shape=shape, order=1, mode="nearest")
    return out


def _signed_distance(region: npt.NDArray[np.bool_], spacing_mm: float) -> npt.NDArray[np.float64]:
    """Distance in mm to the region's surface, positive inside."""
    inside, outside = (ndimage.distance_transform_edt(part) for part in (region, ~region))
    distance: npt.NDArray[np.float64] = (inside - outside - np.sign(inside - outside) * 0.5) * spacing_mm
    return distance


def _touching(region: npt.NDArray[np.bool_], x: Array, y: Array, z: Array) -> npt.NDArray[np.bool_]:
    """The parts of `region` that reach the box where the lateral and third ventricles are."""
    labels, _ = ndimage.label(region)
    box = (np.abs(x) < 25) & (y > -40) & (y < 20) & (z > 0) & (z < 25)
    return np.isin(labels, np.unique(labels[region & box]))


def _distance_to_segment(
    axes: tuple[Array, Array, Array], start: tuple[float, float, float], end: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Distance in mm to a segment of the right hemisphere or its mirror image."""
    x, y, z = np.abs(axes[0]), axes[1], axes[2]
    a, ab = np.asarray(start, float), np.subtract(end, start).astype(float)
    along = np.clip(((x - a[0]) * ab[0] + (y - a[1]) * ab[1] + (z - a[2]) * ab[2]) / (ab @ ab), 0, 1)
    squared = (x - a[0] - along * ab[0]) ** 2 + (y - a[1] - along * ab[1]) ** 2 + (z - a[2] - along * ab[2]) ** 2
    return np.asarray(np.sqrt(squared), dtype=np.float64)


def _ellipsoid_mm(
    axes: tuple[Array, Array, Array], centre: tuple[float, float, float], half_axes: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """About the distance inside an ellipsoid, negative outside."""
    radius = np.sqrt(sum(((axis - c) / h) ** 2 for axis, c, h in zip(axes, centre, half_axes, strict=True)))
    return np.asarray((1 - radius) * min(half_axes), dtype=np.float64)


def _draw_head(
    axes: tuple[Array, Array, Array], depth: npt.NDArray[np.float64], spacing_mm: float
) -> npt.NDArray[np.float64]:
    """Intensity of everything outside the brain's envelope, white matter being 1."""

    def within(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.clip(distance / spacing_mm + 0.5, 0, 1)  # one voxel of partial volume

    under_skin = np.maximum.reduce([depth + _HEAD_MM, *(_ellipsoid_mm(axes, *part) for part in _SOFT_TISSUE)])
    inner, outer = _SKULL_MM
    intensity = 0.45 + 0.5 * (1 - within(under_skin - 4))  # muscle under a bright layer of fat
    for centre, half_axes, value in _CAVITIES:
        cavity = within(_ellipsoid_mm(axes, centre, half_axes)) * within(under_skin - 5)
        intensity += (value - intensity) * cavity
    marrow = np.exp(-0.5 * ((-depth - (inner + outer) / 2) / 1.2) ** 2)
    skull = within(depth + outer)
    intensity += (0.08 + 0.3 * marrow - intensity) * skull
    return intensity * within(under_skin) * within(-depth)
