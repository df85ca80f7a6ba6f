import importlib
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
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


@pytest.fixture
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
