"""How much attribution the planted regions hold, for trained and for untrained networks.

    python experiments/explanations/planted.py WORK [--scans 20] [--cohorts memory stroke cortical lifespan]

WORK holds what run.sh made. Maps are kept in WORK/maps: the command goes on when it is given again. The table is
WORK/enrichment.csv, printed as Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cohorts import COHORTS, Cohort
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuro_ssl.explaining.methods import GradientCAM, GradientTimesInput, IntegratedGradients, Occlusion, attribution
from neuro_ssl.explaining.regions import attribution_by_region, enrichment
from neuro_ssl.files import appearing

METHODS = {
    "integrated gradients": IntegratedGradients(n_steps=20),
    "gradient × input": GradientTimesInput(),
    "Grad-CAM, stage 2 (32 mm)": GradientCAM(layer=-3),
    "Grad-CAM, stage 1 (16 mm)": GradientCAM(layer=-4),
    "occlusion, 16 mm": Occlusion(window_mm=16, stride_mm=16),
}
OCCLUDED = ("memory", 8)  # the cohort, and how many of its scans: minutes a network
SMOOTHING_MM = 8  # full width at half maximum
N_PLACES = 40
COLUMNS = ["cohort", "method", "network", "smoothing_mm", "region", "enrichment", "low", "high", "n_scans"]


def asked_for(cohort, method, network):
    """The gradients of all networks; the rest of the trained and one untrained network."""
    if method.startswith("occlusion"):
        return cohort == OCCLUDED[0] and network in ("trained", "untrained, random head 0")
    return "Grad-CAM" not in method or not network.endswith("1")


def maps_of(cohort, name, folder):
    """(method, network, maps (scans, z, y, x)), made or found in the folder."""
    for network, model in cohort.networks():
        for method, explain in METHODS.items():
            if not asked_for(name, method, network):
                continue
            file = folder / f"{method}-{network}.npy".replace(" ", "_")
            if not file.is_file():
                inputs = cohort.inputs[: OCCLUDED[1]] if method.startswith("occlusion") else cohort.inputs
                maps = attribution(explain, model, inputs, spacing_mm=cohort.store.grid.spacing_mm)
                if explain.complete:
                    with torch.no_grad():
                        explained = model(inputs) - model(torch.zeros_like(inputs[:1]))
                    error = (maps.sum(dim=(1, 2, 3, 4)) - explained).abs().mean() / explained.abs().mean()
                    print(f"{name}, {network}: sums of attributions are off by {error:.1%}", flush=True)
                with appearing(file) as temporary, temporary.open("wb") as stream:
                    np.save(stream, maps.numpy()[:, 0].astype(np.float32))
            yield method, network, np.load(file)


def shares(cohort, maps, smoothing_mm=0.0):
    """One row a scan and region; scans without any attribution (Grad-CAM's can be 0 throughout) are left out."""
    sigma = smoothing_mm / np.sqrt(8 * np.log(2)) / cohort.store.grid.spacing_mm
    parts = []
    for i, map_ in enumerate(maps):
        smooth = ndimage.gaussian_filter(map_, sigma) if sigma else map_
        if np.abs(smooth[cohort.brain[i]]).sum() > 0:
            regions = {name: mask for name, mask in cohort.regions[i].items() if name != "lesion" or mask.any()}
            part = attribution_by_region(smooth, cohort.brain[i], regions).reset_index()
            parts.append(part.assign(subject_id=cohort.scans["subject_id"].iloc[i]))
    return pd.concat(parts) if parts else pd.DataFrame(columns=["region", "subject_id"])


def ratio(maps, brain, regions):
    """Enrichment of masks (scans, z, y, x): the mean share of absolute attribution over the mean share of the brain."""
    absolute = np.abs(maps) * brain
    held = (absolute * regions).sum((1, 2, 3)) / absolute.sum((1, 2, 3))
    return held.mean() / ((brain & regions).sum((1, 2, 3)) / brain.sum((1, 2, 3))).mean()


def elsewhere(cohort, maps, region, seed=0):
    """Enrichments of the region turned at random and shifted a little, everybody's in the same way.

    Of a lesion those of other people's lesions: the region of the next scan, of the one after it, and so on.
    """
    masks = np.stack([regions[region] for regions in cohort.regions])
    if region == "lesion":
        return [ratio(maps, cohort.brain, np.roll(masks, step, axis=0)) for step in range(1, len(maps))]
    rng, found = np.random.default_rng(seed), []
    centre = np.argwhere(cohort.brain.mean(0) > 0.5).mean(0)
    while len(found) < N_PLACES:
        turn, goal = Rotation.random(random_state=rng).as_matrix(), centre + rng.normal(0, 3, 3)
        placed = [ndimage.affine_transform(m.astype("f4"), turn, centre - turn @ goal, order=1) > 0.5 for m in masks]
        if (np.stack(placed) & cohort.brain).sum() >= 0.8 * masks.sum():  # else most of it is outside the brain
            found.append(ratio(maps, cohort.brain, np.stack(placed)))
    return found


def rows_of(cohort, name, folder):
    """The table's rows of one cohort."""
    for method, network, maps in maps_of(cohort, name, folder):
        for smoothing_mm in (0, SMOOTHING_MM):
            table = shares(cohort, maps, smoothing_mm)
            for region, score in enrichment(table).items():
                n_scans = int((table["region"] == region).sum())
                yield name, method, network, smoothing_mm, region, score.value, score.low, score.high, n_scans
        if (method, network) == ("integrated gradients", "trained"):
            for region in set(cohort.planted_in) - {"cortex"}:  # which is everywhere along the surface
                places = elsewhere(cohort, maps, region)
                where = "trained, other people's lesions" if region == "lesion" else "trained, region elsewhere"
                yield name, method, where, 0, region, np.mean(places), *np.quantile(places, [0.025, 0.975]), len(maps)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=list(COHORTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.cohorts:
        folder = arguments.work / "maps" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows += rows_of(Cohort(arguments.work, name, arguments.scans), name, folder)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.to_csv(arguments.work / "enrichment.csv", index=False)
    table["cell"] = [f"{row.enrichment:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in table.itertuples()]
    for (name, smoothing_mm), part in table.groupby(["cohort", "smoothing_mm"], sort=False):
        print(f"\n{name}, maps smoothed by {smoothing_mm} mm\n")
        wide = part.pivot(index=["method", "network"], columns="region", values="cell").fillna("")
        wide = wide.reset_index().sort_values("method", kind="stable")
        for cells in (wide.columns, ["---"] * wide.shape[1], *wide.to_numpy()):
            print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
