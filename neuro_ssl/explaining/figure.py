"""The picture of a mean map, as slices through the scans' mean, by nilearn."""

import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from nilearn import plotting

from neuro_ssl.explaining.display import display
from neuro_ssl.files import appearing
from neuro_ssl.grid import Grid

# Slices in mm: from the temporal poles to the vertex, from the occipital to the frontal lobe, from side to side; the
# hippocampi (z −16, y −22, x ±28), the ventricles (z 14) and the central sulcus (z 54) are among them.
CUTS_MM = {"z": (-32, -16, 0, 14, 34, 54), "y": (-82, -52, -22, 0, 22, 46), "x": (-46, -28, -6, 6, 28, 46)}
FAINT = 0.15  # of where colours end, below which nothing is drawn over the brain


def draw(
    mean: npt.NDArray[np.float32],
    background: npt.NDArray[np.float32],
    grid: Grid,
    *,
    title: str,
    label: str,
    note: str,
    signed: bool,
) -> Figure:
    """Slices along all three axes, inside the brain.

    Args:
        mean: of attributions, (z, y, x) of the grid's shape.
        background: mean of the scans, white matter near 1, > 0 where there is a brain.
        grid: where both are.
        title: what is explained, of whom.
        label: of the colours, with their unit.
        note: below the slices.
        signed: whether attributions may be negative.
    """
    shown = display(mean.transpose(2, 1, 0), background.transpose(2, 1, 0), grid.affine)
    attribution, brain = (
        nib.Nifti1Image((volume * shown.inside).astype(np.float32), shown.affine)  # type: ignore[no-untyped-call]
        for volume in (shown.attribution, shown.brain)
    )
    limit = shown.limit

    colours = "RdBu_r" if signed else "viridis"
    figure, rows = plt.subplots(len(CUTS_MM), 1, figsize=(11, 6.9))
    figure.subplots_adjust(left=0.01, right=0.88, top=0.9, bottom=0.07, hspace=0.02)
    with warnings.catch_warnings():  # nilearn's, of a map that is 0 everywhere, which `making` tells of
        warnings.filterwarnings("ignore", message="empty mask")
        for (axis, cuts), row in zip(CUTS_MM.items(), rows, strict=True):
            plotting.plot_stat_map(
                attribution,
                bg_img=brain,
                display_mode=axis,
                cut_coords=cuts,
                axes=row,
                cmap=colours,
                threshold=FAINT * limit,
                vmin=-limit if signed else 0.0,
                vmax=limit,
                symmetric_cbar=signed,
                colorbar=False,
                black_bg=False,
                annotate=True,
                draw_cross=False,
                dim=0,
            )
    scale = ScalarMappable(Normalize(-limit if signed else 0.0, limit), colours)
    bar = figure.colorbar(scale, cax=figure.add_axes((0.905, 0.15, 0.014, 0.66)))
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.ticklabel_format(axis="y", scilimits=(-2, 3))
    figure.suptitle(title, x=0.012, y=0.985, ha="left", va="top", fontsize=11)
    how = (
        f"MNI mm; L is the left side of the head. Smoothed for this picture; below {FAINT:.0%} of the scale no colour."
    )
    figure.text(0.012, 0.012, f"{how} {note}", fontsize=8, color="0.3")
    return figure


def write(figure: Figure, folder: Path) -> None:
    """Write `figure.png` and `figure.svg`.

    Raises:
        InputError: they cannot be written.
    """
    for ending in ("png", "svg"):
        with appearing(folder / f"figure.{ending}") as file:
            figure.savefig(file, format=ending, dpi=150)
    plt.close(figure)
