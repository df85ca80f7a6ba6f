"""A cohort whose labels show in the images, and an encoder that was pretrained on its training split for a moment."""

import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.grid import Grid
from tests.conftest import run_command

SPLITS = ["train"] * 20 + ["val"] * 8 + ["test"] * 11  # persons; 11 is no multiple of 2


def make_cohort(folder, name, splits, seed):
    """A store: darker with age, larger in men; some persons have a retest, every third of them in another scanner."""
    random = np.random.default_rng(seed)
    grid = Grid.named("16mm")
    rows, brains = [], []
    zyx = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape), indexing="ij"))
    for person, split in enumerate(splits):
        age, sex, site = random.uniform(20, 80), "FM"[person % 2], "AB"[person // 2 % 2]
        size = 0.8 + 0.12 * (sex == "M") + 0.03 * random.standard_normal()
        for session in range(2 if person % 2 == 0 else 1):
            scanner = f"{site}{1 + (session and person % 3 == 0)}"
            image = folder / f"{name}{person}-{session}.nii"
            image.write_text(image.name)
            label = {"subject_id": f"{name}/{person}", "session_id": str(session), "image_path": str(image)}
            rows.append({**label, "split": split, "age_years": age, "sex": sex, "site": site, "scanner": scanner})
            brain = (zyx**2).sum(axis=0) < size**2 * 1.5
            brains.append(brain * (1.3 - age / 100 + 0.05 * random.standard_normal(grid.shape)).clip(0.05))
    scans = add_scan_ids(validate(pd.DataFrame(rows), f"{name}.csv"))
    writer = StoreWriter(folder / "stores" / name, grid, {"version": 1})
    for row, brain in zip(scans.itertuples(), brains, strict=True):
        writer.write(row.scan_id, brain.astype(np.float16), {"brain_ml": 1200.0}, np.eye(4), [row.image_path])
    return writer.finish(scans, name, simulated=True)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """`data_dir` with the stores of cohort `own`, and of cohort `other`, which is smaller."""
    folder = tmp_path_factory.mktemp("cohorts")
    make_cohort(folder, "own", SPLITS, 0)
    make_cohort(folder, "other", SPLITS[-9:], 1)
    return folder


@pytest.fixture(scope="session")
def pretrained_on_own(cohort, tmp_path_factory):
    runs = tmp_path_factory.mktemp("pretrained on own")
    run_command(
        "train",
        *("+experiment=simclr_pretrain", "encoder.width=8", "strategy=cpu", "logger=csv", "num_workers=0"),
        *("dataset=csv", "dataset.cohort=own", "grid=16mm", f"data_dir='{cohort}'", f"runs_dir='{runs}'"),
        *("trainer.max_epochs=1", "representation_every_epochs=0"),
    )
    (run,) = runs.glob("simclr_pretrain-*")
    return run


@pytest.fixture
def arguments(cohort, pretrained_on_own, tmp_path):
    """Of a small evaluation; features are kept for the other tests."""
    return [
        *("dataset=csv", "dataset.cohort=own", "grid=16mm", f"data_dir='{cohort}'", f"runs_dir='{tmp_path}'"),
        *("strategy=cpu", "num_workers=0", f"encoders={{ours: '{pretrained_on_own}'}}", "n_untrained=2"),
        *("from_scratch=[]", "statistics.n_resamples=200", "statistics.n_permutations=500"),
    ]


@pytest.fixture
def quick(monkeypatch):
    """Without what takes most of a small evaluation's time, and is not what the test is about."""
    monkeypatch.setattr("neuro_ssl.evaluating.evaluation.stability", lambda *_: {})
