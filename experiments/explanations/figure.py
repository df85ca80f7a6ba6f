"""maps.png beside this file: mean absolute integrated gradients of test scans, with the planted regions outlined.

python experiments/explanations/figure.py WORK
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from cohorts import Cohort
from scipy import ndimage

SHOWN = {  # cohort → title, axis that is cut, regions outlined
    "memory": ("Alzheimer's disease: medial temporal lobe", 1, ("medial_temporal",)),
    "stroke": ("Stroke severity, one person: lesion", 0, ("lesion",)),
    "lifespan": ("Age: ventricles (cyan), cortex (white)", 0, ("ventricles", "cortex")),
    "cortical": ("Age shows in the cortex alone", 0, ("cortex",)),
}
NETWORKS = ("trained", "untrained, random head 0")
SIGMA = 8 / np.sqrt(8 * np.log(2)) / 4  # 8 mm on a grid of 4 mm


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(3.1 * len(SHOWN), 6.4), layout="constrained")
    for column, (name, (title, axis, outlined)) in zip(axes.T, SHOWN.items(), strict=True):
        cohort = Cohort(work, name, 20)
        sizes = [regions[outlined[0]].sum() for regions in cohort.regions]
        who = [int(np.argmax(sizes))] if name == "stroke" else range(len(sizes))
        masks = {region: np.mean([cohort.regions[i][region] for i in who], axis=0) for region in outlined}
        at = int(np.argmax(masks[outlined[0]].sum(axis=tuple({0, 1, 2} - {axis}))))
        anatomy = cohort.inputs[list(who), 0].mean(0).numpy().take(at, axis)
        for place, network in zip(column, NETWORKS, strict=True):
            maps = np.load(work / "maps" / name / f"integrated_gradients-{network.replace(' ', '_')}.npy")
            smooth = np.mean([np.abs(ndimage.gaussian_filter(maps[i], SIGMA)) for i in who], axis=0)
            share = smooth / smooth[cohort.brain[list(who)].mean(0) > 0.5].mean()
            place.imshow(anatomy, cmap="gray", origin="lower")
            cut = share.take(at, axis)
            shown = place.imshow(cut, cmap="inferno", origin="lower", vmin=0, vmax=5, alpha=np.clip(cut / 2, 0, 0.85))
            for region, colour in zip(outlined, ("cyan", "white"), strict=False):
                place.contour(masks[region].take(at, axis), [0.5], colors=colour, linewidths=0.8)
            place.set_xticks([])
            place.set_yticks([])
        column[0].set_title(title, fontsize=9)
    for row, network in zip(axes, ("trained", "untrained"), strict=True):
        row[0].set_ylabel(network)
    label = "absolute attribution, smoothed by 8 mm, mean of the brain = 1"
    figure.colorbar(shown, ax=axes, location="bottom", shrink=0.4, label=label)
    figure.suptitle("Simulated brains; left is left", fontsize=9)
    figure.savefig(Path(__file__).with_name("maps.png"), dpi=80)


if __name__ == "__main__":
    main()
