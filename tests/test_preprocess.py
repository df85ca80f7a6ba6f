import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
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
def preprocess(command, bids, tmp_path, capsys):
    def run(*overrides):
        options = ["dataset=bids", f"dataset.root={bids}", "dataset.mask_derivative=masks", "grid=8mm"]
        options += ["bias_correction=false", "registration=centre"]  # the masks are balls, not brains
        command("preprocess", *options, f"data_dir={tmp_path}/data", "n_jobs=1", *overrides)
        return capsys.readouterr().out

    return run


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

    out = preprocess()
    assert "0 volumes made, 4 were there already" in out
    assert "3 subjects keep the split" in out
    assert {file: file.stat().st_mtime_ns for file in store.path.glob("volumes/*")} == before
    assert VolumeStore.open(store.path).identity == store.identity
    assert not Path("outputs").exists()


def test_a_broken_scan_stops_with_its_name_and_the_rest_is_kept(preprocess, bids, tmp_path, capsys):
    broken = next(bids.glob("sub-3/**/*_T1w.nii.gz"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    with pytest.raises(SystemExit) as stop:
        preprocess()
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert f"error: {broken}: cannot be read" in err and "3 volumes are finished" in err
    assert "Traceback" not in err
    broken.write_bytes(whole)
    assert "1 volumes made, 3 were there already" in preprocess()


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
        (["splits.train=0.9"], "add up to 1"),
        (["grid=big"], "grid must be"),
        (["n_jobs=0"], "n_jobs must be at least 1"),
        (["brain_extraction=bet"], "brain_extraction must be"),
        (["dataset.root=null"], "dataset.root: the folder of the images is needed"),
        (["dataset.mask_derivative=null", "brain_extraction=mask"], "4 of 4 images have no mask"),
        (["+dataset.mask=masks"], "dataset.mask is not a parameter"),
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
