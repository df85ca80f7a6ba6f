"""How much attribution the planted regions hold, for trained and for untrained networks.

    python experiments/explanations/planted.py WORK [--scans 20]

WORK holds what run.sh made. Maps are kept there, so that the command given again goes on; tables go to WORK/shares.csv and
are printed as Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.store import VolumeStore, open_volume
from neuro_ssl.explaining.methods import (
    GradientCAM,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    attribution,
)
from neuro_ssl.explaining.models import ExplainedModel
from neuro_ssl.explaining.output import Explained, Linear
from neuro_ssl.explaining.regions import attribution_by_region, enrichment, region_on_grid
from neuro_ssl.simulation.regions import PlantedCohort
from neuro_ssl.views.intensity import normalise

# cohort → manifest column, where the effect of the task is planted
COHORTS = {
    "memory": ("diagnosis", ("medial_temporal",)),
    "stroke": ("nihss", ("lesion",)),
    "cortical": ("age_years", ("cortex",)),
    "lifespan": ("age_years", ("ventricles", "cortex")),
}
METHODS = {
    "integrated gradients": (IntegratedGradients(n_steps=20), None),
    "gradient × input": (GradientTimesInput(), None),
    "Grad-CAM, stage 2 (32 mm)": (GradientCAM(layer=-3), None),
    "Grad-CAM, stage 1 (16 mm)": (GradientCAM(layer=-4), None),
    "occlusion, 16 mm": (Occlusion(window_mm=16, stride_mm=16), 8),  # at most so many scans: it is slow
}
EVERY = ("integrated gradients", "gradient × input")  # for all networks; the others for the trained and the first untrained
SEEDS = (0, 1)
SMOOTHING_MM = 8  # full width at half maximum
N_PLACES = 40


class Cohort:
    """The test scans of a cohort, their regions, and the networks that are explained."""

    def __init__(self, work, name, n_scans):
        self.target = COHORTS[name][0]
        self.store = VolumeStore.find(work / "data" / "stores" / name, "4mm")
        manifest = self.store.manifest
        self.rows = manifest[manifest["split"] == "test"].iloc[:n_scans]
        self.train = manifest[manifest["split"] == "train"]
        (run,) = (work / "runs" / name).glob("from_scratch-*")
        self.weights = Weights.load(str(run))
        volumes = self.volumes(self.rows)
        self.inputs, self.brain = normalise(volumes, "z_score_brain"), (volumes > 0).numpy()[:, 0]
        planted = PlantedCohort.open(work / "data" / name)
        self.regions = [self._regions(planted, row) for row in self.rows.itertuples()]

    def volumes(self, rows):
        return torch.from_numpy(np.stack([self.store.read(volume) for volume in rows["volume"]]))[:, None].float()

    def _regions(self, planted, row):
        array = open_volume(self.store.path / row.volume)  # its metadata live as long as it does
        to_scan = np.array(array.schunk.vlmeta["neuro_ssl"]["to_scan"])
        masks = planted.regions(row.image_path)
        return {name: region_on_grid(mask, self.store.grid, to_scan) for name, mask in masks.items()}

    def networks(self):
        """By name: the trained one; untrained ones with a random head, and with a ridge regression on the labels."""
        yield "trained", ExplainedModel.of(self.weights).build(None)
        labels = self.train[self.target]
        labels = (labels == "AD") * 1.0 if self.target == "diagnosis" else labels
        for seed in SEEDS:
            encoder = Weights.untrained(self.weights.encoder, seed).build_encoder().eval()
            random = torch.randn(encoder.embed_dim, generator=torch.Generator().manual_seed(seed))
            yield f"untrained, random head {seed}", Explained(encoder, Linear(random))
            with torch.no_grad():
                parts = normalise(self.volumes(self.train), "z_score_brain").split(16)
                features = torch.cat([encoder(part) for part in parts]).numpy()
            scale, ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(features, labels)
            yield f"untrained, ridge head {seed}", Explained(encoder, Linear(torch.from_numpy(ridge.coef_ / scale.scale_)))


def maps_of(cohort, folder):
    """(method, network, maps of the scans), made or found in the folder."""
    for network, model in cohort.networks():
        for method, (explain, at_most) in METHODS.items():
            if method.startswith("occlusion") and (cohort.target != "diagnosis" or "ridge" in network):
                continue  # minutes a network
            if method not in EVERY and network.rpartition(" ")[2] not in ("trained", "0"):
                continue
            file = folder / f"{method}-{network}.npy".replace(" ", "_")
            if not file.is_file():
                inputs = cohort.inputs[:at_most]
                maps = attribution(explain, model, inputs, spacing_mm=cohort.store.grid.spacing_mm)
                if explain.complete:
                    with torch.no_grad():
                        explained = (model(inputs) - model(torch.zeros_like(inputs[:1]))).numpy()
                    error = np.abs(maps.sum(dim=(1, 2, 3, 4)).numpy() - explained) / np.abs(explained).mean()
                    print(f"{network}: the sum of attributions is off by {error.mean():.1%} of what is explained", flush=True)
                np.save(file, maps.numpy()[:, 0].astype(np.float32))
            yield method, network, np.load(file)


def shares(cohort, maps, smoothing_mm=0.0):
    """One row a scan and region; scans without any attribution (Grad-CAM's can be 0 throughout) are left out."""
    sigma = smoothing_mm / np.sqrt(8 * np.log(2)) / cohort.store.grid.spacing_mm
    parts = []
    for subject, map_, brain, regions in zip(cohort.rows["subject_id"], maps, cohort.brain, cohort.regions):
        if np.abs(map_[brain]).sum() > 0:
            smooth = ndimage.gaussian_filter(map_, sigma) if sigma else map_
            parts.append(attribution_by_region(smooth, brain, regions).reset_index().assign(subject_id=subject))
    return pd.concat(parts) if parts else None


def elsewhere(cohort, maps, region, seed=0):
    """Enrichments of the region turned and shifted at random, all scans' in the same way, at least 80 % in the brain."""
    rng, found = np.random.default_rng(seed), []
    absolute, brain = np.abs(maps) * cohort.brain[: len(maps)], cohort.brain[: len(maps)]
    total, size = absolute.sum((1, 2, 3)), brain.sum((1, 2, 3))
    masks = np.stack([regions[region] for regions in cohort.regions[: len(maps)]])
    where = np.argwhere(masks.any(0))
    centre, spread = where.mean(0), np.argwhere(brain.mean(0) > 0.5)
    for _ in range(20 * N_PLACES):
        rotation = Rotation.random(random_state=rng).as_matrix()
        goal = spread[rng.integers(len(spread))] if region == "lesion" else centre + rng.normal(0, 8, 3)
        placed = np.stack([ndimage.affine_transform(m.astype(np.float32), rotation, centre - rotation @ goal, order=1) for m in masks])
        placed = (placed > 0.5) & brain
        if placed.sum() >= 0.8 * masks.sum():
            found.append(((absolute * placed).sum((1, 2, 3)) / total).mean() / (placed.sum((1, 2, 3)) / size).mean())
        if len(found) == N_PLACES:
            break
    return np.array(found)


def of_others(cohort, maps):
    """Enrichment of the lesions of other people: each map against the lesion of the next scan, and so on round."""
    found = []
    for step in range(1, len(maps)):
        pairs = [(m, b, cohort.regions[(i + step) % len(maps)]["lesion"] & b) for i, (m, b) in enumerate(zip(maps, cohort.brain))]
        share = np.mean([np.abs(m[r]).sum() / np.abs(m[b]).sum() for m, b, r in pairs])
        found.append(share / np.mean([r.sum() / b.sum() for _, b, r in pairs]))
    return np.array(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--scans", type=int, default=20)
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.cohorts:
        cohort = Cohort(arguments.work, name, arguments.scans)
        folder = arguments.work / "maps" / name
        folder.mkdir(parents=True, exist_ok=True)
        for method, network, maps in maps_of(cohort, folder):
            for smoothing_mm in (0, SMOOTHING_MM):
                table = shares(cohort, maps, smoothing_mm)
                for region, score in ({} if table is None else enrichment(table)).items():
                    rows.append((name, method, network, smoothing_mm, region, score.value, score.low, score.high, table["subject_id"].nunique()))
            if method == "integrated gradients" and network == "trained":
                for region in set(COHORTS[name][1]) - {"cortex"}:
                    places = of_others(cohort, maps) if region == "lesion" else elsewhere(cohort, maps, region)
                    low, high = np.quantile(places, [0.025, 0.975])
                    what = "lesions of others" if region == "lesion" else "region elsewhere"
                    rows.append((name, method, f"trained, {what}", 0, region, places.mean(), low, high, len(places)))
        table = pd.DataFrame(rows, columns=["cohort", "method", "network", "smoothing_mm", "region", "enrichment", "low", "high", "n"])
        table.to_csv(arguments.work / "shares.csv", index=False)
        chosen = table[(table["cohort"] == name) & table["region"].isin(["ventricles", "cortex", "medial_temporal", "lesion"])].copy()
        chosen["cell"] = [f"{r.enrichment:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in chosen.itertuples()]
        wide = chosen.pivot(index=["smoothing_mm", "method", "network"], columns="region", values="cell")
        print(f"\n{name}\n{wide.to_markdown()}\n", flush=True)


if __name__ == "__main__":
    main()
