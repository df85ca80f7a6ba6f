"""The middle slices of a few scans, with what speaks for a higher or a lower prediction on them in colour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neuro_ssl.explaining.display import PERCENTILE
from neuro_ssl.reporting.runs.figures import middle_planes

Array = npt.NDArray[np.float32]

COLOURS = "bwr"
MOST = 0.85  # of a colour that covers the brain below it
GAP = 0.12  # between slices, of their width


@dataclass(frozen=True, eq=False)
class Shown:
    """One scan.

    Attributes:
        output: what is explained, in words.
        about: the scan: no id.
        volume: (z, y, x), axes towards S, A, R; white matter near 1, 0 outside the brain.
        attribution: of the same shape, smoothed.
    """

    output: str
    about: str
    volume: Array
    attribution: Array


def saliency_figure(scans: Sequence[Shown]) -> Figure:
    """A row a scan: axial, coronal and sagittal slice.

    Colours end at a percentile of the scan's own attributions, so that they tell places apart, and not scans.

    Args:
        scans: of one grid.
    """
    pictures = [[_coloured(*planes) for planes in _planes(scan)] for scan in scans]
    height = max(len(picture) for row in pictures for picture in row)
    width = max(picture.shape[1] for row in pictures for picture in row)
    gap = max(1, round(GAP * width))
    rows = [np.hstack([_framed(picture, height, width, gap) for picture in row]) for row in pictures]
    mosaic = np.vstack(rows)
    figure = Figure(figsize=(7.2, 7.2 * len(mosaic) / mosaic.shape[1] + 0.8), facecolor="black")
    inches = figure.get_figheight()
    axes = figure.add_axes((0.0, 0.5 / inches, 1.0, 1 - 0.8 / inches))
    axes.imshow(mosaic, aspect="equal")
    axes.set_axis_off()
    outputs = list(dict.fromkeys(scan.output for scan in scans))
    figure.text(0.012, 1 - 0.1 / inches, f"Gradient × input: {'; '.join(outputs)}", color="white", fontsize=9, va="top")
    for number, scan in enumerate(scans):
        top = number * (height + gap)
        what = scan.about if len(outputs) == 1 else f"{scan.output}, {scan.about}"
        axes.text(gap / 2, top + gap / 2, what, color="white", fontsize=8, va="center")
        for x, letter in ((0, "L"), (width, "R")):
            axes.text(gap / 2 + x, top + gap + height / 2, letter, color="white", fontsize=8, ha="center")
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), COLOURS),
        cax=figure.add_axes((0.3, 0.34 / inches, 0.4, 0.1 / inches)),
        orientation="horizontal",
        ticks=[-1, 1],
    )
    bar.ax.set_xticklabels(["lowers it", "raises it"])
    bar.ax.tick_params(colors="white", labelsize=8)
    return figure


def _planes(scan: Shown) -> list[tuple[Array, Array]]:
    """Of each slice the greys from 0 to 1, and the colours from −1 to 1."""
    brain = scan.volume[scan.volume > 0]
    light = float(np.percentile(brain, 99)) if brain.size else 1.0
    inside = np.abs(scan.attribution[scan.volume > 0])
    limit = (float(np.percentile(inside, PERCENTILE)) if inside.size else 0.0) or 1.0
    grey = middle_planes(np.clip(scan.volume / light, 0, 1))
    colour = middle_planes(np.clip(scan.attribution / limit, -1, 1))
    return [(grey[plane], colour[plane]) for plane in grey]


def _coloured(grey: Array, colour: Array) -> Array:
    """(rows, columns, 3): the stronger the attribution, the more of its colour."""
    share = MOST * np.abs(colour)[..., None]
    tint = colormaps[COLOURS]((colour + 1) / 2)[..., :3]
    return np.asarray((1 - share) * grey[..., None] + share * tint, np.float32)


def _framed(picture: Array, height: int, width: int, gap: int) -> Array:
    """In the middle of a black frame, below a gap."""
    rows, columns = height - len(picture), width + gap - picture.shape[1]
    return np.pad(picture, ((gap + rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)))
