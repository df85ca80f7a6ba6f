"""The page of quality control: one sortable table, each scan with three slices, in one HTML file without the network.

Slices show the scan as acquired, turned into MNI space, with the outline of its brain mask and, dashed, that of the
template's brain: what was cut away and what is tilted shows at a glance.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from neuro_ssl.data.store import VolumeStore, open_volume
from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.outliers import RULES, SMALLEST_COHORT, limits
from neuro_ssl.preprocessing.quality import COMPARED, template

if TYPE_CHECKING:
    from neuro_ssl.reporting.quality.store import Quality

MOST_SHOWN = 500  # scans: with 20 kB each the page stays below 15 MB
UNFLAGGED_SHOWN = 50  # at least, of a larger cohort
PIXEL_MM = 1.5
CENTRE_MM = np.array([0.0, -20.0, 10.0])  # where the three planes meet: midline, central sulcus, basal ganglia
HALF_MM = {"x": 84.0, "y": 111.0, "z": 93.0}  # what is shown on either side of the centre
MASK_RGB, TEMPLATE_RGB = (230, 159, 0), (86, 180, 233)  # Okabe & Ito's orange and sky blue

# Columns of the table: heading, what it says, format.
COLUMNS = {
    "brain_ml": ("Brain, ml", "volume of the brain mask", ".0f"),
    "dice": ("Dice", "overlap of brain and template brain, both of one size", ".3f"),
    "missing_ml": ("Missing, ml", "part of the template's interior that the brain doesn't fill", ".0f"),
    "template_correlation": ("Correlation", "of the intensities with the template's", ".3f"),
    "rotation_degrees": ("Rotation, °", "of the head in the scanner's frame, against the template", ".0f"),
    "shift_mm": ("Shift, mm", "of the head in the scanner's frame, against the template", ".0f"),
    "voxel_mm": ("Voxel, mm", "size along left–right, front–back and up", ""),
    "grey_to_white": ("Grey : white", "intensity of grey matter, white matter being 1", ".3f"),
    "noise": ("Noise", "standard deviation, white matter being 1", ".3f"),
    "cnr": ("CNR", "contrast of white and grey matter in units of the noise", ".1f"),
    "entropy": ("Entropy", "entropy focus criterion: motion, ghosts and blurring raise it", ".3f"),
    "intensity_p50": ("Median", "intensity inside the brain, in the image's own units", ".4g"),
    "sidedness": ("Sidedness", "asymmetry like the cohort's: 1; mirrored: −1", ".2f"),
    "copy_correlation": ("Likeness", "to the most similar scan of another subject: copies are near 1", ".2f"),
}
# In the summary, where a measurement's name does not say it.
NAMES = {
    "image_hash": "same file",
    "copy_correlation": "second copy",
    "sidedness": "left and right swapped",
    "missing_ml": "missing part",
    "brain_ml": "brain volume",
    "rotation_degrees": "rotation",
}
_VOXEL = ["voxel_x_mm", "voxel_y_mm", "voxel_z_mm"]


@dataclass(frozen=True)
class Cell:
    """One value of a scan: as shown, to sort by, and whether a rule flags it."""

    text: str
    value: float
    flagged: bool


@dataclass(frozen=True)
class Row:
    """One scan on the page."""

    scan_id: str
    subject_id: str
    reasons: list[str]
    excluded: str
    cells: list[Cell]
    picture: str
    stripped: bool


def render(quality: "Quality", manifest: pd.DataFrame, made: datetime, n_jobs: int = 1) -> str:
    """The whole page.

    Args:
        quality: what was found.
        manifest: of all scans, for the paths of the images.
        made: date on the page.
        n_jobs: processes that read images.

    Returns:
        HTML.
    """
    from joblib import Parallel, delayed

    table, shown = quality.table, _shown(quality.table)
    sources = manifest.set_index("scan_id")
    pictures = list(
        Parallel(n_jobs)(
            delayed(picture)(quality.store, sources["volume"][scan], sources["image_path"][scan])
            for scan in table["scan_id"][shown]
        )
    )
    columns = {name: column for name, column in COLUMNS.items() if name in table or name == "voxel_mm"}
    if not set(_VOXEL) <= set(table):
        columns.pop("voxel_mm")
    rows = []
    for i, (image, stripped) in zip(shown, pictures, strict=True):
        record, flagged = table.iloc[i], {flag.measurement for flag in quality.flags[i]}
        cells = [_cell(record, name, style, flagged) for name, (_, _, style) in columns.items()]
        reasons = [flag.reason for flag in quality.flags[i]]
        rows.append(Row(record["scan_id"], record["subject_id"], reasons, record["excluded"], cells, image, stripped))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neuro_ssl.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("quality.html.j2").render(
        quality=quality,
        store=quality.store,
        made=made,
        columns=columns,
        rows=rows,
        n_excluded=int((table["excluded"] != "").sum()),
        names={name: NAMES.get(name, name.removesuffix("_mm").replace("_", " ")) for name in quality.counts},
        rules=[
            (rule, *(_bound(bound) for bound in limits(table[rule.measurement].to_numpy(float), rule)))
            for rule in RULES
            if rule.measurement in table
        ],
        small=len(table) < SMALLEST_COHORT,
    )


def _shown(table: pd.DataFrame) -> list[int]:
    """Rows of the page: all, or of a large cohort the flagged and excluded ones and a sample of the others."""
    if len(table) <= MOST_SHOWN:
        return list(range(len(table)))
    noted = np.flatnonzero((table["flags"] != "") | (table["excluded"] != ""))[: MOST_SHOWN - UNFLAGGED_SHOWN]
    others = np.flatnonzero((table["flags"] == "") & (table["excluded"] == ""))
    sample = np.random.default_rng(0).permutation(others)[: MOST_SHOWN - len(noted)]
    return sorted([*noted.tolist(), *sample.tolist()])


def _bound(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else ""


def _cell(record: "pd.Series[float]", name: str, style: str, flagged: set[str]) -> Cell:
    if name == "voxel_mm":
        sizes = [float(record[axis]) for axis in _VOXEL]
        text = "–" if any(map(np.isnan, sizes)) else "×".join(f"{size:.3g}" for size in sizes)
        return Cell(text, max(sizes), bool(flagged & set(_VOXEL)))
    value = float(record[name])
    also = {"copy_correlation": "image_hash"}.get(name)
    return Cell("–" if np.isnan(value) else format(value, style), value, name in flagged or also in flagged)


def picture(store: VolumeStore, volume: str, image_path: str) -> tuple[str, bool]:
    """Axial, coronal and sagittal slice of a scan, as a data URI; left is left, and in the sagittal one front is right.

    Args:
        store: the store.
        volume: as in its manifest.
        image_path: the scan; where it is gone, or isn't readable any more, the stripped volume is shown.

    Returns:
        The JPEG, and whether it shows the stripped volume.
    """
    from matplotlib.image import imsave

    planes = [_plane(*axes) for axes in (("x", "y"), ("x", "z"), ("y", "z"))]
    brain_volume = store.read(volume).astype(np.float32)
    to_volume = np.linalg.inv(store.grid.affine)
    inside = (brain_volume > 0).astype(np.float32)
    stripped = False
    try:
        head, affine = read_nifti(image_path)
    except InputError:
        stripped, head, to_head = True, brain_volume.transpose(2, 1, 0), to_volume
    else:
        array = open_volume(store.path / volume)  # must outlive its metadata
        to_head = np.linalg.inv(affine) @ np.array(array.schunk.vlmeta["neuro_ssl"]["to_scan"])
    slices = [_sample(head, to_head, plane) for plane in planes]
    masks = [_sample(inside.transpose(2, 1, 0), to_volume, plane) >= 0.5 for plane in planes]
    expected = template()[1].astype(np.float32).transpose(2, 1, 0)
    references = [_sample(expected, np.linalg.inv(COMPARED.affine), plane) >= 0.5 for plane in planes]

    values = np.concatenate([pixels[mask] for pixels, mask in zip(slices, masks, strict=True)])
    bright = float(np.percentile(values, 98)) if values.size else 0.0
    white = bright if bright > 0 else 1.0
    height = max(plane.shape[0] for plane in planes)
    tiles = []
    for pixels, mask, reference in zip(slices, masks, references, strict=True):
        rgb = np.repeat((np.clip(pixels / white, 0, 1) * 255).astype(np.uint8)[..., None], 3, -1)
        dashes = np.add.outer(np.arange(rgb.shape[0]), np.arange(rgb.shape[1])) % 6 < 3
        rgb[(reference & ~ndimage.binary_erosion(reference)) & dashes] = TEMPLATE_RGB
        rgb[mask & ~ndimage.binary_erosion(mask, border_value=1)] = MASK_RGB
        pad = height - rgb.shape[0]
        tiles.append(np.pad(rgb[::-1], ((pad // 2, pad - pad // 2), (1, 1), (0, 0))))
    buffer = BytesIO()
    imsave(buffer, np.concatenate(tiles, 1), format="jpeg", pil_kwargs={"quality": 82, "subsampling": 0})
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", stripped


def _plane(across: str, up: str) -> npt.NDArray[np.float64]:
    """MNI positions (x, y, z) of the pixels of a plane through the centre: (rows, columns, 3), rows upwards."""
    axes = "xyz"
    columns, rows = (np.arange(-HALF_MM[axis], HALF_MM[axis] + PIXEL_MM, PIXEL_MM) for axis in (across, up))
    points = np.tile(CENTRE_MM, (len(rows), len(columns), 1))
    points[..., axes.index(across)] += columns
    points[..., axes.index(up)] += rows[:, None]
    return points


def _sample(
    array: npt.NDArray[np.float32], to_voxel: npt.NDArray[np.floating], points: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The values of an array (x, y, z) at positions in mm, 0 outside."""
    indices = np.moveaxis(points @ to_voxel[:3, :3].T + to_voxel[:3, 3], -1, 0)
    return ndimage.map_coordinates(array, indices, order=1, mode="constant")
