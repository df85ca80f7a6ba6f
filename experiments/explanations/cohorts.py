"""The simulated cohorts of this study: test scans, planted regions on their grid, and the networks to explain."""

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.explaining.images import to_scan_of
from neuro_ssl.explaining.models import ExplainedModel
from neuro_ssl.explaining.output import Explained, Linear
from neuro_ssl.explaining.regions import region_on_grid
from neuro_ssl.simulation.regions import PlantedCohort
from neuro_ssl.views.intensity import normalise

# cohort → column of the manifest that is learnt, and where its effect is planted
COHORTS = {
    "memory": ("diagnosis", ("medial_temporal",)),
    "stroke": ("nihss", ("lesion",)),
    "cortical": ("age_years", ("cortex",)),
    "lifespan": ("age_years", ("ventricles", "cortex")),
}
SEEDS = (0, 1)  # of untrained networks


class Cohort:
    """One cohort of WORK, with its first `n_scans` test scans in memory."""

    def __init__(self, work: Path, name: str, n_scans: int):
        self.target, self.planted_in = COHORTS[name]
        self.store = VolumeStore.find(work / "data" / "stores" / name, "4mm")
        self.planted = PlantedCohort.open(work / "data" / name)
        (run,) = (work / "runs" / name).glob("from_scratch-*")
        self.weights = Weights.load(str(run))
        manifest = self.store.manifest
        self.train, test = (manifest[manifest["split"] == split] for split in ("train", "test"))
        self.scans = test.iloc[:n_scans]
        self.inputs = self.read(self.scans)
        self.brain = (self.inputs != 0).numpy()[:, 0]
        self.regions = []
        for scan in self.scans.itertuples():
            to_scan = to_scan_of(self.store, scan.volume)
            masks = self.planted.regions(scan.image_path)
            self.regions.append({name: region_on_grid(mask, self.store.grid, to_scan) for name, mask in masks.items()})

    def read(self, scans):
        """Volumes as the encoders are given them: (scans, 1, z, y, x)."""
        volumes = np.stack([self.store.read(volume) for volume in scans["volume"]])
        return normalise(torch.from_numpy(volumes)[:, None], "z_score_brain")

    @property
    def trained(self):
        """What was trained on this cohort."""
        return ExplainedModel.of(self.weights).build(None)

    def networks(self):
        """(name, model): the trained one; untrained ones, with a random head and with one fitted to the labels."""
        yield "trained", self.trained
        labels = self.train[self.target]
        labels = (labels == "AD").astype(float) if self.target == "diagnosis" else labels
        for seed in SEEDS:
            encoder = Weights.untrained(self.weights.encoder, seed).build_encoder().eval()
            head = torch.randn(encoder.embed_dim, generator=torch.Generator().manual_seed(seed))
            yield f"untrained, random head {seed}", Explained(encoder, Linear(head))
            with torch.no_grad():
                features = torch.cat([encoder(part) for part in self.read(self.train).split(16)]).numpy()
            scale, ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(features, labels)
            head = torch.from_numpy(ridge.coef_ / scale.scale_)
            yield f"untrained, fitted head {seed}", Explained(encoder, Linear(head))
