import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
from nilearn.image import resample_img
from scipy import ndimage

from neuro_ssl.data.store import VolumeStore
from neuro_ssl.preprocessing.pipeline import Preprocessing

DATA = Path(__file__).parent / "data/ixi_2mm"


def ball(image):
    """A crude brain mask: a ball of 1.4 litres in the middle of the field of view."""
    indices = np.moveaxis(np.indices(image.shape), 0, -1)
    return ((indices - (np.array(image.shape) - 1) / 2) ** 2).sum(-1) < 35**2


@pytest.fixture
def bids(tmp_path):
    """Four real scans of three subjects, with masks."""
    root = tmp_path / "heads"
    people = []
    for number, file in enumerate(sorted(DATA.glob("*.nii.gz"))):
        subject, session = f"sub-{max(number, 1)}", f"ses-{number}"
        name = f"{subject}/{session}/anat/{subject}_{session}"
        for path in (root / f"{name}_T1w.nii.gz", root / f"derivatives/masks/{name}_desc-brain_mask.nii.gz"):
            path.parent.mkdir(parents=True)
        shutil.copy(file, root / f"{name}_T1w.nii.gz")
        image = nib.load(file)
        mask = nib.Nifti1Image(ball(image).astype(np.uint8), image.affine)
        nib.save(mask, root / f"derivatives/masks/{name}_desc-brain_mask.nii.gz")
        people.append(f"{subject}\t{50 + number}\tF")
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex", *people[1:]]) + "\n")
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    return root


@pytest.fixture
def options(bids, tmp_path):
    dataset = ["dataset=bids", f"dataset.root={bids}", "dataset.mask_derivative=masks", "grid=8mm"]
    fast = ["bias_correction=false", "registration=centre"]  # the masks are balls, not brains
    return [*dataset, *fast, f"data_dir={tmp_path}/data", "n_jobs=1"]


@pytest.fixture
def preprocess(command, options, capsys):
    def run(*overrides):
        sweeps = [override for override in overrides if override == "-m"]
        command("preprocess", *sweeps, *options, *[override for override in overrides if override != "-m"])
        return capsys.readouterr().out

    return run


@pytest.fixture
def fails(preprocess, capsys):
    """Run a command that must exit with status 1; what it prints."""

    def run(*overrides):
        with pytest.raises(SystemExit) as stop:
            preprocess(*overrides)
        assert stop.value.code == 1
        return capsys.readouterr()

    return run


def contents(data):
    """The bytes of everything that preprocessing wrote, besides locks and the quality page, which bears its date."""
    files = (
        file for file in (data / "stores").rglob("*") if file.is_file() and file.name not in (".lock", "quality.html")
    )
    return {str(file.relative_to(data)): file.read_bytes() for file in files}


def test_bids_to_store_and_again(preprocess, tmp_path):
    out = preprocess("n_jobs=2")
    assert "4 volumes made, 0 were there already (brain masks: mask)" in out
    assert "cohort heads: 4 scans of 3 subjects" in out
    assert f"dataset=bids dataset.cohort=heads data_dir={tmp_path}/data grid=8mm" in out
    store = VolumeStore.find(tmp_path / "data/stores/heads", "8mm")
    assert str(store.path) in out
    assert store.manifest["scan_id"].tolist() == ["sub-1_ses-0", "sub-1_ses-1", "sub-2_ses-2", "sub-3_ses-3"]
    assert sorted(store.manifest.groupby("split")["subject_id"].nunique()) == [1, 1, 1]
    assert store.manifest["age_years"].tolist() == [51, 51, 52, 53]
    for volume in map(store.read, store.manifest["volume"]):
        assert volume.shape == store.grid.shape and volume.dtype == np.float16
        assert abs((volume > 0).sum() * 0.512 / 1437 - 1) < 0.05  # millilitres of the ball
    last = store.manifest.iloc[-1]
    alone = Preprocessing(store.grid, "mask", "centre", bias_correction=False)(last["image_path"], last["mask_path"])
    np.testing.assert_array_equal(store.read(last["volume"]), alone.volume)
    before = {file: file.stat().st_mtime_ns for file in store.path.glob("volumes/*")}

    preprocess("n_jobs=1", f"data_dir={tmp_path}/one process")
    assert contents(tmp_path / "data") == contents(tmp_path / "one process")
    assert len(contents(tmp_path / "data")) == 4 + 4 + 1  # volumes, the tables and description, splits

    out = preprocess()
    assert "0 volumes made, 4 were there already" in out
    assert "3 subjects keep the split" in out
    assert {file: file.stat().st_mtime_ns for file in store.path.glob("volumes/*")} == before
    assert VolumeStore.open(store.path).identity == store.identity
    assert not Path("outputs").exists()


@pytest.fixture
def broken(bids):
    """The only scan of a subject, truncated; call it to make it whole."""
    file = next(bids.glob("sub-3/**/*_T1w.nii.gz"))
    stat, whole = file.stat(), file.read_bytes()
    file.write_bytes(whole[:1000])

    def repair():
        file.write_bytes(whole)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    repair.file = file
    return repair


def test_a_broken_scan_is_listed_and_the_others_go_on(fails, preprocess, broken, tmp_path):
    shown = fails()
    failures = next((tmp_path / "data/stores/heads").glob("8mm-*/failures.csv"))
    assert shown.err.count("error: ") == 1 and "Traceback" not in shown.err
    assert "error: 1 of 4 scans could not be used, and the store goes without them" in shown.err
    assert f"\n  sub-3_ses-3: {broken.file}: cannot be read" in shown.err and str(failures) in shown.err
    (row,) = pd.read_csv(failures).to_dict("records")
    assert (row["scan_id"], row["image_path"]) == ("sub-3_ses-3", str(broken.file)) and "cannot be read" in row[
        "reason"
    ]
    store = VolumeStore.open(failures.parent)
    assert store.manifest["scan_id"].tolist() == ["sub-1_ses-0", "sub-1_ses-1", "sub-2_ses-2"]

    (tmp_path / "data/stores/heads/exclude.csv").write_text("scan_id,reason\nsub-3_ses-3,truncated\n")
    assert "0 volumes made, 3 were there already" in preprocess()  # a failure that is known, and not an error any more
    assert failures.is_file()
    (tmp_path / "data/stores/heads/exclude.csv").unlink()

    broken()
    assert "1 volumes made, 3 were there already" in preprocess()
    assert not failures.exists()
    preprocess(f"data_dir={tmp_path}/never broken")  # the splits, too
    assert contents(tmp_path / "data") == contents(tmp_path / "never broken")


def test_on_error_stop_names_the_first_and_keeps_what_is_done(fails, preprocess, broken, tmp_path):
    err = fails("on_error=stop").err
    assert f"error: {broken.file}: cannot be read" in err and "3 volumes are finished" in err and "Traceback" not in err
    assert not list(tmp_path.rglob("store.json"))
    broken()
    assert "1 volumes made, 3 were there already" in preprocess()


def test_no_store_where_every_scan_is_broken(fails, bids, tmp_path):
    for file in bids.glob("sub-*/**/*_T1w.nii.gz"):
        file.write_bytes(b"")
    err = fails().err
    assert "none of the 4 scans could be used" in err and err.count("error: ") == 1
    assert len(pd.read_csv(next(tmp_path.rglob("failures.csv")))) == 4 and not list(tmp_path.rglob("store.json"))


def start(options, *overrides):
    """The command in a process group of its own."""
    command = [sys.executable, "-m", "neuro_ssl.preprocess", *options, *overrides]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_volumes(data, n):
    deadline = time.monotonic() + 60
    while len(list(data.glob("stores/*/*/volumes/[!.]*"))) < n:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_and_started_again_it_is_as_if_nothing_had_happened(preprocess, options, tmp_path):
    process = start(options)
    wait_for_volumes(tmp_path / "data", 1)
    kill(process)
    assert not list(tmp_path.rglob("store.json"))
    made = {file: file.stat().st_mtime_ns for file in tmp_path.glob("data/stores/*/*/volumes/[!.]*")}
    out = preprocess()
    assert f"{4 - len(made)} volumes made, {len(made)} were there already" in out
    assert made == {file: file.stat().st_mtime_ns for file in made}
    preprocess(f"data_dir={tmp_path}/whole")
    assert without_leftovers(contents(tmp_path / "data")) == contents(tmp_path / "whole")


def without_leftovers(files):
    return {name: content for name, content in files.items() if not Path(name).name.startswith(".")}


@pytest.mark.slow
def test_killed_again_and_again_at_random_moments(preprocess, options, tmp_path):
    random, data = np.random.default_rng(), tmp_path / "data"  # other moments each time
    for _ in range(12):
        process = start(options, "n_jobs=2")
        time.sleep(random.uniform(1, 6))
        kill(process)
        if random.random() < 0.4:  # so that late moments come up too: while the store is described
            for file in list(data.glob("stores/*/*/volumes/*"))[:1]:
                file.unlink()
    preprocess()
    preprocess(f"data_dir={tmp_path}/whole")
    assert without_leftovers(contents(data)) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_worker_that_the_system_kills_gives_one_message(preprocess, options, tmp_path):
    process = start([*options, "grid=1mm"], "n_jobs=2")
    wait_for_volumes(tmp_path / "data", 1)
    workers = [child for child in psutil.Process(process.pid).children() if "LokyProcess" in " ".join(child.cmdline())]
    workers[0].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"Traceback" not in err
    assert b"error: a preprocessing process was killed, most likely because the memory is full" in err
    assert b"n_jobs=1" in err and b"volumes are finished; the same command goes on from there" in err
    n_made, n_there = map(int, re.search(r"(\d) volumes made, (\d) were there", preprocess("grid=1mm")).groups())
    assert n_there >= 1 and n_made + n_there == 4


@pytest.mark.parametrize(
    "launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow), pytest.param("late", marks=pytest.mark.slow)]
)
def test_shards_make_the_same_store(preprocess, tmp_path, launcher):
    options = ["num_shards=2", f"hydra.sweep.dir={tmp_path}/sweep"]
    if launcher == "late":  # two commands, the last shard first
        assert "shard 1 of 2: other shards are not done" in preprocess(*options, "shard=1")
        assert not list(tmp_path.rglob("store.json"))
        out = preprocess(*options, "shard=0")
    else:
        out = preprocess("-m", "shard=0,1", *options, f"hydra/launcher={launcher}")
    if launcher != "joblib":  # whose processes print past the capture
        assert "shard 0 of 2: 2 volumes made, 0 were there" in out or "shard 1 of 2: 2 volumes made" in out
        assert "cohort heads: 4 scans" in out
    preprocess(f"data_dir={tmp_path}/whole")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")
    assert "2 were there already" in preprocess("num_shards=2", "shard=1")


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_broken_scan_in_one_shard_lets_the_others_finish(fails, broken, bids, tmp_path, launcher):
    first = next(bids.glob("sub-1/ses-0/**/*_T1w.nii.gz"))  # in shard 0, and sub-3's in shard 1
    first.write_bytes(b"")
    fails("-m", "shard=0,1", "num_shards=2", f"hydra.sweep.dir={tmp_path}/sweep", f"hydra/launcher={launcher}")
    store = VolumeStore.find(tmp_path / "data/stores/heads", "8mm")
    assert store.manifest["scan_id"].tolist() == ["sub-1_ses-1", "sub-2_ses-2"]
    failures = pd.read_csv(store.path / "failures.csv")
    assert failures["scan_id"].tolist() == ["sub-1_ses-0", "sub-3_ses-3"]


def test_refuses_a_disk_without_room(fails, monkeypatch, tmp_path):
    place = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 7_000_000, 7_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: place)
    err = fails("grid=1mm").err
    assert "4 volumes need about 12 MB, and 7 MB are free; make room" in err
    assert not list(tmp_path.rglob("*.b2nd"))


def test_a_real_head_from_a_table_with_deepbet(command, tmp_path, capsys):
    table = pd.read_csv(DATA / "participants.csv")[:1].assign(split="train")
    table.to_csv(tmp_path / "one.csv", index=False)
    command(
        "preprocess", "dataset=csv", f"dataset.root={DATA}", f"dataset.table={tmp_path}/one.csv", "grid=4mm",
        "dataset.columns={subject_id: MRID, age_years: Age, sex: Sex}", "dataset.image_pattern='{MRID}_T1.nii.gz'",
        f"data_dir={tmp_path}", "n_jobs=1",
    )  # fmt: skip
    assert "1 volumes made, 0 were there already (brain masks: deepbet)" in capsys.readouterr().out
    store = VolumeStore.find(tmp_path / "stores/ixi_2mm", "4mm")
    (scan,) = store.manifest.to_dict("records")
    assert (scan["subject_id"], scan["sex"], scan["age_years"]) == ("ixi_2mm/IXI206-HH-1650", "F", 50.02)
    assert scan["split"] == "train" and 1000 < scan["brain_ml"] < 1400

    volume = store.read(scan["volume"])
    brain = volume > 0
    assert abs(brain.sum() * 0.064 / scan["brain_ml"] - 1) < 0.03  # nothing much lost at the field of view's border
    labels, _ = ndimage.label(brain)
    assert np.bincount(labels[brain]).max() > 0.999 * brain.sum()

    # White matter is 1 and where it belongs: deep white matter by the template.
    def where(template):
        there = resample_img(template(resolution=4), store.grid.affine, store.grid.shape[::-1])
        return (there.get_fdata().transpose(2, 1, 0) > 0.7) & brain

    white, grey = ndimage.binary_erosion(where(load_mni152_wm_template)), where(load_mni152_gm_template)
    assert white.sum() > 100 and grey.sum() > 100
    assert 0.9 < np.median(volume[white]) < 1.1
    assert np.median(volume[grey]) < 0.9 * np.median(volume[white])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["on_error=ignore"], "on_error must be continue or stop"),
        (["shard=2", "num_shards=2"], "shard must be from 0 to num_shards - 1, got shard=2 num_shards=2"),
        (["shard=-1"], "shard must be from 0"),
        (["num_shards=0"], "shard must be from 0"),
        (["dataset.root=null"], "dataset.root: the folder of the images is needed"),
        (["dataset.mask_derivative=null", "brain_extraction=mask"], "4 of 4 images have no mask"),
        (["dataset.values={sex: [1, 2]}"], "dataset.values"),
    ],
)
def test_refuses(preprocess, capsys, overrides, message):
    with pytest.raises(SystemExit) as stop:
        preprocess(*overrides)
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


def test_two_cohorts_of_one_name_do_not_mix(preprocess, bids, tmp_path, capsys):
    preprocess()
    other = tmp_path / "elsewhere" / "heads"
    shutil.copytree(bids, other)
    preprocess(f"dataset.root={other}")  # the same images in another place
    for file in other.glob("sub-*/**/*_T1w.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(image.get_fdata() + 1, image.affine), file)
    moved = other.rename(tmp_path / "elsewhere" / "again")
    with pytest.raises(SystemExit):
        preprocess(f"dataset.root={moved}", "dataset.cohort=heads")
    assert "holds the scans of another cohort of this name" in capsys.readouterr().err
