"""Preprocess whole heads and draw each in three planes, with the template's outline on it: to be looked at.

python experiments/preprocessing/look.py OUTPUT.png HEAD.nii.gz …    (options: --grid 2mm)
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from nilearn.datasets import load_mni152_brain_mask, load_mni152_wm_template
from nilearn.image import resample_img

from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.pipeline import Preprocessing

COLUMNS = 4  # heads in a row


def on_grid(image, grid):
    return resample_img(image, grid.affine, grid.shape[::-1], interpolation="linear").get_fdata().transpose(2, 1, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("heads", nargs="+")
    parser.add_argument("--grid", default="2mm")
    parser.add_argument("--n-jobs", type=int, default=2)
    options = parser.parse_args()
    grid = Grid.named(options.grid)
    preprocess = Preprocessing(grid, "deepbet")
    volumes = Parallel(options.n_jobs)(delayed(preprocess)(head) for head in options.heads)
    templates = load_mni152_brain_mask, load_mni152_wm_template
    outlines = [on_grid(template(resolution=2), grid) for template in templates]

    rows = -(-len(volumes) // COLUMNS)
    figure, axes = plt.subplots(rows, 3 * COLUMNS, figsize=(3 * COLUMNS * 1.6, rows * 1.9), facecolor="black")
    for axis in axes.flat:
        axis.axis("off")
    middle = [round(n * share) for n, share in zip(grid.shape, (0.5, 0.5, 0.45), strict=True)]
    for i, (head, brain) in enumerate(zip(options.heads, volumes, strict=True)):
        for plane in range(3):
            axis = axes[i // COLUMNS, 3 * (i % COLUMNS) + plane]
            axis.imshow(
                brain.volume.take(middle[plane], plane).astype(np.float32), "gray", origin="lower", vmin=0, vmax=1.3
            )
            for outline, colour in zip(outlines, ("cyan", "orange"), strict=True):
                axis.contour(outline.take(middle[plane], plane), [0.5], colors=colour, linewidths=0.5)
            if plane == 0:
                axis.set_title(f"{Path(head).name[:14]} {brain.measurements['brain_ml']:.0f} ml", color="w", fontsize=7)
    figure.subplots_adjust(0, 0, 1, 0.98, 0.01, 0.08)
    figure.savefig(options.output, dpi=100, facecolor="black")


if __name__ == "__main__":
    main()
