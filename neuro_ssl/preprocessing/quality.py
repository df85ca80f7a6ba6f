"""Numbers that tell a bad scan, mask or alignment from a good one. What counts as bad is in `outliers`.

Of the scan as acquired, after MRIQC (Esteban et al. 2017, doi 10.1371/journal.pone.0184661): signal, noise and an
entropy that motion raises. Differs: tissue classes come from the brain's histogram rather than from a segmentation,
and noise from inside the brain, since the background of defaced or stripped images is empty. Of the volume: how it
agrees with the MNI152 template, both brains being of one size.
"""

import functools
import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from neuro_ssl.grid import Grid

TEMPLATE_CENTRE_MM = (0.0, -22.0, 9.55)  # centre of mass of the template's brain, RAS
PERCENTILES = (0.5, 5, 40, 50, 80, 95, 99.5)
HISTOGRAM_BINS = 256
# The grid that volumes are compared on. It mirrors onto itself at x = 0, the template's midplane, which the grids of
# `neuro_ssl.grid` don't: reversing the last axis swaps left and right exactly.
COMPARED = Grid("compared", shape=(43, 51, 41), spacing_mm=4.0, origin_mm=(-80.0, -116.0, -80.0))
BAND_MM = (3.0, 12.0)  # standard deviations: finer is noise, broader is residual misalignment and bias field
LARGEST_SCALING = 1.3  # of lengths: from 860 ml to the template's 1880


def measure_scan(
    voxels: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    *,
    to_scan: npt.NDArray[np.float64],
) -> dict[str, float]:
    """Measure a scan as acquired: before bias field correction, on its own grid.

    Args:
        voxels: (x, y, z) in RAS orientation, a whole head.
        mask: its brain, same shape.
        affine: from voxel indices to RAS mm.
        to_scan: 4×4 matrix from MNI mm to the scan's mm, both RAS; rigid or affine.

    Returns:
        `brain_ml`: volume of the mask.
        `voxel_x_mm`, `voxel_y_mm`, `voxel_z_mm`: voxel size along the axes nearest to R, A, S.
        `shift_mm`: how far the template's centre lies from the brain's in the scanner's frame.
        `rotation_degrees`: angle of the one rotation that turns the template into the scan.
        `intensity_p05`, `intensity_p50`, `intensity_p95`: percentiles inside the brain, in the image's own units.
        `grey_to_white`: level of grey matter, white matter being 1.
        `noise`: standard deviation of the noise, white matter being 1.
        `cnr`: difference of white and grey matter in units of the noise.
        `entropy`: the entropy focus criterion of the whole image, 0 (one bright voxel) to 1 (all alike); blurring and
            ghosts, as of motion, raise it (Atkinson et al. 1997, doi 10.1109/42.650886).
    """
    occupied = [np.flatnonzero(mask.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(max(0, indices[0] - 1), indices[-1] + 2) for indices in occupied)
    inside, brain = mask[box], voxels[box]
    values = brain[inside]
    percentiles = dict(zip(PERCENTILES, np.percentile(values, PERCENTILES).tolist(), strict=True))
    grey, white = _grey_and_white(values, percentiles)
    noise = _noise(brain, inside)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(to_scan[:3, :3])
    cosine = (np.trace(left @ right) - 1) / 2
    centre = np.array([*TEMPLATE_CENTRE_MM, 1.0])
    return {
        "brain_ml": float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000),
        "voxel_x_mm": float(spacing[0]),
        "voxel_y_mm": float(spacing[1]),
        "voxel_z_mm": float(spacing[2]),
        "shift_mm": float(np.linalg.norm((to_scan @ centre - centre)[:3])),
        "rotation_degrees": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        "intensity_p05": percentiles[5],
        "intensity_p50": percentiles[50],
        "intensity_p95": percentiles[95],
        "grey_to_white": grey / white if white else math.nan,
        "noise": noise / white if white else math.nan,
        "cnr": (white - grey) / noise if noise else math.nan,
        "entropy": _entropy_focus(voxels),
    }


def _grey_and_white(values: npt.NDArray[np.float32], percentiles: dict[float, float]) -> tuple[float, float]:
    """Mean intensities of grey and white matter: the upper two of three clusters (k-means on the histogram)."""
    if percentiles[0.5] == percentiles[99.5]:  # no tissue at all
        return math.nan, math.nan
    from sklearn.cluster import KMeans

    counts, edges = np.histogram(values, HISTOGRAM_BINS, range=(percentiles[0.5], percentiles[99.5]))
    start = [[percentiles[5]], [percentiles[40]], [percentiles[80]]]  # of ten parts one is fluid, five or six are grey
    clusters = KMeans(3, init=np.array(start), n_init=1).fit(
        (edges[:-1] + edges[1:])[:, None] / 2, sample_weight=counts
    )
    _, grey, white = sorted(clusters.cluster_centers_[:, 0].tolist())
    return grey, white


def _noise(brain: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of the noise, from pseudo-residuals (Coupé et al. 2010, doi 10.1016/j.media.2010.03.001).

    A voxel minus the mean of its six neighbours, scaled to have the noise's own variance; the median of its size
    leaves edges out.
    """
    residual = brain.copy()
    for axis in range(3):
        residual -= ndimage.correlate1d(brain, [1 / 6, 0, 1 / 6], axis, mode="nearest")
    interior = ndimage.binary_erosion(inside)
    return float(1.4826 * np.sqrt(6 / 7) * np.median(np.abs(residual[interior]))) if interior.any() else math.nan


def _entropy_focus(voxels: npt.NDArray[np.float32]) -> float:
    """The entropy of Atkinson et al. 1997, divided by its maximum as in MRIQC; by planes, which spares memory."""
    total = squares = weighted = 0.0
    for plane in voxels:
        size = np.abs(plane, order="C").ravel()
        total += float(size.sum(dtype=np.float64))
        squares += float(size @ size)
        weighted += float(size @ np.log(np.maximum(size, np.finfo(np.float32).tiny)))  # 0 log 0 = 0
    energy = math.sqrt(squares)
    most = math.sqrt(voxels.size) * math.log(math.sqrt(voxels.size))
    return -(weighted / energy - total / energy * math.log(energy)) / most  # Σ s/e log(s/e)


@functools.cache
def template() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """T1w intensities and brain of the template that nilearn carries (ICBM 152 2009a, symmetric), on `COMPARED`."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
    from nilearn.image import resample_img, smooth_img

    def resampled(image: object) -> npt.NDArray[np.float32]:
        smooth = smooth_img(image, COMPARED.spacing_mm)  # against aliasing
        on_grid = resample_img(smooth, COMPARED.affine, COMPARED.shape[::-1], force_resample=True, copy_header=True)
        return np.ascontiguousarray(on_grid.get_fdata(dtype=np.float32).transpose(2, 1, 0))

    brain = resampled(load_mni152_brain_mask(resolution=2)) >= 0.5
    return np.where(brain, resampled(load_mni152_template(resolution=2)), np.float32(0)), brain


def measure_volume(volume: npt.NDArray[np.float16], grid: Grid) -> tuple[dict[str, float], npt.NDArray[np.float16]]:
    """Compare a volume with the template, after scaling its brain to the template's size.

    (Rigid registration leaves the size of heads, which would otherwise decide about Dice.)

    Args:
        volume: (z, y, x) on `grid`, 0 outside the brain.
        grid: of the volume.

    Returns:
        The measurements, and a fingerprint by which scans are compared with each other: (voxels,), the scaled volume's
        detail between 3 and 12 mm inside the brain; see `mirror`.
        `dice`: overlap of brain and template brain, 0 to 1.
        `template_correlation`: of the intensities inside the template's brain (Pearson).
        `missing_ml`: how much of the template's interior, 8 mm and more below its surface, the brain doesn't fill.
    """
    expected, expected_brain = template()
    intensity = volume.astype(np.float32)
    inside = intensity > 0
    brain_mm3 = np.count_nonzero(inside) * grid.spacing_mm**3
    template_mm3 = np.count_nonzero(expected_brain) * COMPARED.spacing_mm**3
    scaling = float(np.clip(np.cbrt(template_mm3 / max(1.0, brain_mm3)), 1 / LARGEST_SCALING, LARGEST_SCALING))
    scaled = _on_compared(intensity, grid, scaling)
    brain = _on_compared(inside.astype(np.float32), grid, scaling) >= 0.5
    dice = 2 * np.count_nonzero(brain & expected_brain) / (np.count_nonzero(brain) + np.count_nonzero(expected_brain))
    correlation = correlations(scaled[expected_brain][None], expected[expected_brain][None])[0, 0]
    fine, broad = (ndimage.gaussian_filter(scaled, sigma / COMPARED.spacing_mm) for sigma in BAND_MM)
    fingerprint = (fine - broad)[_interior()].astype(np.float16)
    missing_ml = np.count_nonzero(_interior() & ~brain) * COMPARED.spacing_mm**3 / 1000
    measurements = {"dice": float(dice), "template_correlation": float(correlation), "missing_ml": missing_ml}
    return measurements, fingerprint


@functools.cache
def _interior() -> npt.NDArray[np.bool_]:
    """The voxels of fingerprints: (z, y, x) on `COMPARED`, as many left as right; not the rim, where masks differ."""
    brain = template()[1]
    return ndimage.binary_erosion(brain & brain[..., ::-1], iterations=2)


@functools.cache
def mirror() -> npt.NDArray[np.intp]:
    """Indices that turn a fingerprint into that of the same scan with left and right swapped."""
    interior = _interior()
    position = np.cumsum(interior).reshape(interior.shape) - 1
    return position[..., ::-1][interior]


def _on_compared(volume: npt.NDArray[np.float32], grid: Grid, scaling: float) -> npt.NDArray[np.float32]:
    """Average over blocks of about 4 mm, which prevents aliasing, and resample, scaled about the template's centre."""
    block = max(1, round(COMPARED.spacing_mm / grid.spacing_mm))
    averaged = np.pad(volume, [(0, -size % block) for size in volume.shape])
    for axis in range(3):  # the outermost first, along contiguous memory
        size = averaged.shape
        averaged = averaged.reshape(*size[:axis], size[axis] // block, block, *size[axis + 1 :]).mean(axis + 1)
    spacing_mm = grid.spacing_mm * block
    origin_mm = np.array(grid.origin_mm) + (spacing_mm - grid.spacing_mm) / 2
    centre_mm = np.array(TEMPLATE_CENTRE_MM)
    start_mm = (np.array(COMPARED.origin_mm) - centre_mm) / scaling + centre_mm
    return ndimage.affine_transform(
        averaged,
        np.full(3, COMPARED.spacing_mm / scaling / spacing_mm),
        ((start_mm - origin_mm) / spacing_mm)[::-1],
        output_shape=COMPARED.shape,
        order=1,
        mode="constant",
    )


def correlations(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pearson correlations of rows of `a` (n, values) with rows of `b` (m, values): (n, m), 0 for constant rows."""

    def standardised(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        rows = rows - rows.mean(1, keepdims=True)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled: npt.NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        return scaled

    found: npt.NDArray[np.float32] = standardised(a) @ standardised(b).T
    return found
