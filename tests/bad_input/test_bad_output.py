"""Output that cannot be written: one message with the file, nothing half-written, and the same command goes on later.

A full disk is played by the system's limit on the size of a file, which cuts writes short just as a full disk does,
and by `/dev/full`; root may write anywhere, so that a read-only place is one below a file.
"""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from neuro_ssl.data.store import VolumeStore


@contextmanager
def files_of_at_most(n_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def partial_files(folder):
    return [file for file in folder.rglob(".*") if file.name not in (".lock", ".bidsignore", ".report")]


def test_a_store_that_does_not_fit_and_then_does(heads, refuses, command, capsys, tmp_path):
    elsewhere = [*heads.arguments, f"data_dir={tmp_path}/new"]
    with files_of_at_most(300):
        added = refuses(
            "preprocess", *elsewhere, says=[r"cannot write .*volumes/.*\.b2nd: File too large", "make room"]
        )
    assert not added
    command("preprocess", *elsewhere)
    assert "4 volumes made, 0 were there already" in capsys.readouterr().out


def test_no_space_is_told_as_the_system_tells_it(heads, refuses, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", no_space)
    says = [r"cannot write .*001\.b2nd: No space left on device", "0 volumes are finished; the same command goes on"]
    assert not refuses("preprocess", *heads.arguments, f"data_dir={tmp_path}/new", says=says)


@pytest.mark.parametrize("name", ["manifest.parquet", "store.json"])
def test_a_store_stays_as_it_was_where_its_description_does_not_fit(heads, refuses, monkeypatch, name):
    store = next(heads.data.glob("stores/heads/16mm-*"))
    table = pd.read_csv(heads.table, dtype=str).assign(site="A")
    table.to_csv(heads.table, index=False)
    temporary = store / f".{os.getpid()}.{name}"
    temporary.symlink_to("/dev/full")
    assert not refuses("preprocess", *heads.arguments, says=[f"cannot write .*{name}: No space left", "make room"])
    assert not temporary.is_symlink()
    VolumeStore.open(store)


def test_a_simulation_that_does_not_fit_and_then_does(refuses, command, capsys, tmp_path):
    small = [f"output={tmp_path}/new", "n_subjects=2", "spacing_mm=8", "follow_up_fraction=0", "n_jobs=1"]
    with files_of_at_most(5000):
        refuses("simulate", *small, says=[r"cannot write .*\.nii\.gz: File too large", "choose another place"])
    assert not list(tmp_path.rglob("*.nii.gz")) and not partial_files(tmp_path)
    command("simulate", *small)
    assert "2 scans of 2 subjects" in capsys.readouterr().out


def test_a_simulation_by_several_processes(refuses, tmp_path):
    small = [f"output={tmp_path}/new", "n_subjects=2", "spacing_mm=8", "follow_up_fraction=0", "n_jobs=2"]
    with files_of_at_most(5000):
        refuses("simulate", *small, says=[r"cannot write .*\.nii\.gz: File too large", "choose another place"])
    assert not list(tmp_path.rglob("*.nii.gz")) and not partial_files(tmp_path)


def test_a_checkpoint_that_does_not_fit(trained, refuses, command, capsys):
    arguments = ["+experiment=simclr_pretrain", "encoder.width=8", *trained.arguments, "seed=3"]
    with files_of_at_most(100_000):
        refuses("train", *arguments, says=["File too large", "make room"])
    assert len(list(trained.runs.glob("*/checkpoints/last.ckpt"))) == 1  # the other run's
    command("train", *arguments)
    assert "finished: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "reason"), [("{tmp}/file/below", "Not a directory"), ("/proc/neuro_ssl", "No such file or directory")]
)
def test_places_that_nobody_can_write_to(heads, trained, refuses, tmp_path, place, reason):
    (tmp_path / "file").write_text("mine")
    place = place.format(tmp=tmp_path)
    commands = {
        "preprocess": [*heads.arguments, f"data_dir={place}"],
        "simulate": [f"output={place}", "n_subjects=1", "spacing_mm=8", "n_jobs=1"],
        "train": ["+experiment=from_scratch", "encoder.width=8", *trained.arguments, f"runs_dir={place}"],
        "report": [f"runs_dir={trained.runs}", f"output={place}"],
    }
    for name, arguments in commands.items():
        says = [f"cannot write (to )?{place}", reason, "choose another (place|runs_dir)"]
        assert not refuses(name, *arguments, says=says)


def test_a_report_that_does_not_fit_leaves_the_old_one(trained, refuses, command):
    command("report", f"runs_dir='{trained.runs}'")
    with files_of_at_most(50_000):  # what lies beside the page is smaller
        assert not refuses("report", f"runs_dir='{trained.runs}'", says=[r"cannot write .*report\.html", "make room"])
    assert not partial_files(trained.runs)


def test_a_simulated_folder_is_not_written_over_another(refuses, tmp_path):
    small = ["n_subjects=1", "spacing_mm=8", "n_jobs=1"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    assert not refuses(
        "simulate", f"output={tmp_path}/mine", *small, "overwrite=true", says=["mine", "another output="]
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other/simulation.json").write_text("{")
    assert not refuses("simulate", f"output={tmp_path}/other", *small, says=[r"simulation\.json: damaged", "delete"])


def denied(place, real):
    """Stands in for a place that may not be read: root may read everything."""

    def call(file, *args, **kwargs):
        if str(file) == str(place):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return real(file, *args, **kwargs)

    return call


@pytest.mark.parametrize("name", ["table", "image", "mask"])
def test_files_that_may_not_be_read(heads, refuses, monkeypatch, name):
    place = getattr(heads, name)
    for file in heads.data.glob("stores/heads/16mm-*/volumes/003.b2nd"):
        file.unlink()
    for module in ("builtins", "io"):
        monkeypatch.setattr(f"{module}.open", denied(place, open))
    assert not refuses("preprocess", *heads.arguments, says=[f"{place.name}: Permission denied", "get (read )?access"])


@pytest.mark.parametrize("name", ["sub-0002", "sub-0002/ses-01/anat", "derivatives/masks/sub-0003/ses-01"])
def test_a_folder_that_may_not_be_read_is_not_passed_over(simulated, tmp_path, refuses, monkeypatch, name):
    monkeypatch.setattr(os, "scandir", denied(simulated / name, os.scandir))
    arguments = ["dataset=bids", f"dataset.root={simulated}", "dataset.mask_derivative=masks", f"data_dir={tmp_path}"]
    says = [f"{name}: Permission denied", "get read access"]
    assert not refuses("preprocess", *arguments, "grid=16mm", "n_jobs=1", says=says)
