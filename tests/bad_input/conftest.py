"""Bad input through the real commands: one message that names the culprit and the remedy, and nothing touched.

`heads` is a folder with four simulated scans in a table and a finished store of them; `trained` adds a store of real
heads and a finished pretraining run. Every test works on a copy.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import run_command


def listing(folder):
    """Every file's size and time, save for the store's memory of which volumes it found whole."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "checks.parquet")
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


@pytest.fixture
def refuses(command, capsys, tmp_path):
    """Run a command that must stop with one message, and leave every file below `tmp_path` as it was.

    Returns the files that it added.
    """

    def run(name, *arguments, says):
        before = listing(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command(name, *arguments)
        assert stop.value.code == 1
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        assert shown.err.count("error: ") == 1, shown.err
        message = shown.err.partition("error: ")[2]
        for part in says:
            assert re.search(part, message), f"{part!r} is not in: {message}"
        after = listing(tmp_path)
        assert {file: after.get(file) for file in before} == before
        return sorted(set(after) - set(before))

    return run


@dataclass(frozen=True)
class Heads:
    """Four scans in `root`, listed in `root/scans.csv`, with masks; a finished store of them in `data`."""

    root: Path
    data: Path

    @property
    def arguments(self):
        return [
            *("dataset=csv", f"dataset.root='{self.root}'", "dataset.table=scans.csv", "grid=16mm"),
            *(f"data_dir='{self.data}'", "n_jobs=1", "bias_correction=false", "registration=centre"),
        ]

    @property
    def table(self):
        return self.root / "scans.csv"

    @property
    def image(self):
        return self.root / "scan 3.nii.gz"

    @property
    def mask(self):
        return self.root / "mask 3.nii.gz"


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    run_command("simulate", f"output={folder}", "n_subjects=4", "spacing_mm=4", "follow_up_fraction=0", "n_jobs=1")
    return folder


@pytest.fixture(scope="session")
def prepared(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    heads = Heads(folder / "heads", folder / "data")
    heads.root.mkdir()
    rows = ["subject_id,image_path,mask_path,age_years,sex"]
    for number in range(1, 5):
        for name, pattern in {
            "scan": "sub-*/**/*_T1w.nii.gz",
            "mask": "derivatives/**/*_desc-brain_mask.nii.gz",
        }.items():
            source = next(file for file in simulated.glob(pattern) if f"sub-000{number}" in file.name)
            shutil.copy(source, heads.root / f"{name} {number}.nii.gz")
        rows.append(f"00{number},scan {number}.nii.gz,mask {number}.nii.gz,{50 + number},{'FM'[number % 2]}")
    heads.table.write_text("\n".join(rows) + "\n")
    run_command("preprocess", *heads.arguments)
    return folder


@pytest.fixture
def heads(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return Heads(tmp_path / "heads", tmp_path / "data")


@dataclass(frozen=True)
class Trained:
    """A store of four real heads in `data`, and a finished pretraining run in `runs`."""

    data: Path
    runs: Path

    @property
    def arguments(self):
        return [
            *("dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{self.data}'", f"runs_dir='{self.runs}'"),
            *("strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"),
        ]

    @property
    def store(self):
        return next((self.data / "stores/ixi").glob("8mm-*"))

    @property
    def run(self):
        return next(self.runs.glob("simclr_pretrain-*"))


@pytest.fixture(scope="session")
def trained_once(real_brains, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(real_brains, folder / "data")
    trained = Trained(folder / "data", folder / "runs")
    run_command("train", "+experiment=simclr_pretrain", "encoder.width=8", *trained.arguments)
    return folder


@pytest.fixture
def trained(trained_once, tmp_path):
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    return Trained(tmp_path / "data", tmp_path / "runs")
