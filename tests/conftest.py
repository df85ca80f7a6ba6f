import importlib
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import wandb.sdk.launch  # noqa: F401  W&B does so at a process's first run, which takes 7 s once torch is there
from hydra._internal.hydra import Hydra

os.environ["WANDB_MODE"] = "offline"  # no test talks to a server, whatever keys this machine holds

IXI = Path(__file__).parent / "data" / "ixi_2mm"  # four real heads


def run_command(name: str, *arguments: object) -> None:
    """Run `python -m neuro_ssl.<name> …` in this process, through its real entry point.

    Hydra composes a command's configuration twice, the first time only to look whether `hydra.mode` says sweep. Nothing
    here sets it, so that the answer is always None, and a tenth of a second a command is saved.
    """
    module = importlib.import_module(f"neuro_ssl.{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(Path(module.__file__)), *map(str, arguments)])
        patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        module.main()


@pytest.fixture(scope="session")
def command():
    return run_command


@pytest.fixture(scope="session")
def real_brains(tmp_path_factory):
    """`data_dir` with a store of the four real heads on an 8 mm grid: two to train on, one to select, one to test."""
    folder = tmp_path_factory.mktemp("real brains")
    table = pd.read_csv(IXI / "participants.csv")
    table["mask_path"] = [str(IXI / "masks" / f"{name}_mask.nii.gz") for name in table["MRID"]]
    table.to_csv(folder / "with_masks.csv", index=False)
    run_command(
        "preprocess",
        "dataset=csv",
        "dataset.cohort=ixi",
        f"dataset.root={IXI}",
        f"dataset.table='{folder / 'with_masks.csv'}'",
        "dataset.columns={subject_id: MRID, age_years: Age, sex: Sex, mask_path: mask_path}",
        'dataset.image_pattern="{MRID}_T1.nii.gz"',
        "splits={train: 0.5, val: 0.25, test: 0.25}",
        "grid=8mm",
        "n_jobs=1",
        "bias_correction=false",  # seconds a scan; tests/test_preprocess.py runs the whole chain
        "registration=centre",
        f"data_dir='{folder}'",
    )
    return folder


@pytest.fixture(scope="session")
def pretrained(real_brains, tmp_path_factory):
    """A run: a small ResNet-18, pretrained for a moment on the real heads."""
    runs = tmp_path_factory.mktemp("pretrained")
    run_command(
        "train",
        *("+experiment=simclr_pretrain", "encoder.width=8", "strategy=cpu", "logger=csv", "num_workers=0"),
        *("dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={runs}"),
        *("batch_size=2", "trainer.max_epochs=1"),
    )
    (run,) = runs.glob("simclr_pretrain-*")
    return run


@pytest.fixture(scope="session")
def random_scans(tmp_path_factory):
    """A store of cohort `c` in `stores/c` of its data_dir: noise with 7 training, 3 validation and 3 test scans."""
    return store_of_noise(tmp_path_factory.mktemp("store"))


def store_of_noise(folder, prefix=""):
    """What `random_scans` is, in a folder; subjects are called by a prefix and a number."""
    import numpy as np

    from neuro_ssl.data.manifest import add_scan_ids, validate
    from neuro_ssl.data.store_writer import StoreWriter
    from neuro_ssl.grid import Grid

    grid = Grid.named("16mm")
    random = np.random.default_rng(0)
    splits = ["train"] * 7 + ["val"] * 3 + ["test"] * 3
    subjects = [0, 1, 2, 0, 3, 4, 1, 5, 6, 6, 7, 8, 8]  # some with several scans
    images = [folder / f"{i}.nii" for i in range(len(splits))]
    for image in images:
        image.write_text(image.name)
    table = {
        "subject_id": [f"c/{prefix}{i}" for i in subjects],
        "session_id": [str(i) for i in range(len(splits))],
        "image_path": map(str, images),
        "split": splits,
        "age_years": [20.0 + 5 * i for i in subjects],
        "sex": ["FM"[i % 2] for i in subjects],
    }
    scans = add_scan_ids(validate(pd.DataFrame(table), "c.csv"))
    writer = StoreWriter(folder / "stores" / "c", grid, {"version": 1})
    for row in scans.itertuples():
        volume = random.uniform(0.5, 1.5, grid.shape) * (random.random(grid.shape) > 0.3)
        writer.write(row.scan_id, volume.astype(np.float16), {"brain_ml": 1200.0}, np.eye(4), [row.image_path])
    return writer.finish(scans, "c", simulated=True)
