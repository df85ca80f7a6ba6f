import json
from pathlib import Path

import pandas as pd
import pytest

from neuro_ssl.data.bids import BIDSDataset
from neuro_ssl.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "study"
    for name in (
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_run-1_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_run-10_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_run-2_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
        "derivatives/masks/sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz",
        "derivatives/masks/sub-01/ses-a/anat/sub-01_ses-a_space-MNI_desc-brain_mask.nii.gz",
        "derivatives/masks/sub-01/ses-b/anat/sub-01_ses-b_run-1_desc-brain_mask.nii.gz",
        "derivatives/masks/sub-01/ses-b/anat/sub-01_ses-b_run-10_desc-brain_mask.nii.gz",
        "derivatives/masks/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
    ):
        touch(root / name)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (root / "participants.tsv").write_text(
        "participant_id\tage\tsex\tgroup\nsub-01\t60\tF\tCN\nsub-02\tn/a\tmale\tn/a\n"
    )
    (root / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tage\tdiagnosis\tnihss\nses-a\tn/a\tn/a\t4\nses-b\t63.5\tAD\tn/a\n"
    )
    return root


def test_sessions_runs_masks_and_phenotype(root):
    with pytest.warns(UserWarning, match=r"2 T1w images have a later run .*run-1_T1w.nii.gz, .*run-2_T1w"):
        scans = BIDSDataset(root=str(root), mask_derivative="masks").scans()
    assert scans["subject_id"].tolist() == ["study/sub-01", "study/sub-01", "study/sub-02"]
    assert scans["session_id"].tolist()[:2] == ["ses-a", "ses-b"] and pd.isna(scans["session_id"][2])
    runs = ["sub-01_ses-a", "sub-01_ses-b_run-10", "sub-02"]
    images, masks = ([Path(path).name for path in scans[column]] for column in ("image_path", "mask_path"))
    assert images == [f"{runs[0]}_T1w.nii.gz", f"{runs[1]}_T1w.nii.gz", f"{runs[2]}_T1w.nii"]
    assert masks == [f"{run}_desc-brain_mask.nii.gz" for run in runs]
    assert all(Path(path).is_file() for path in [*scans["image_path"], *scans["mask_path"]])
    assert scans["age_years"].fillna(-1).tolist() == [60, 63.5, -1]
    assert scans["sex"].tolist() == ["F", "F", "M"]
    assert scans["diagnosis"].fillna("").tolist() == ["CN", "AD", ""]
    assert scans["nihss"].fillna(-1).tolist() == [4, -1, -1]


@pytest.mark.filterwarnings("ignore:.*later run")
def test_one_mask_missing_is_left_to_the_caller(root):
    (root / "derivatives/masks/sub-02/anat/sub-02_desc-brain_mask.nii.gz").unlink()
    assert BIDSDataset(root=str(root), mask_derivative="masks").scans()["mask_path"].isna().tolist() == [
        False,
        False,
        True,
    ]


def test_simulated_only_where_the_description_says_so(root):
    assert not BIDSDataset(root=str(root)).simulated
    for maker, expected in (("fMRIPrep", False), ("neuro_ssl.simulate", True)):
        (root / "dataset_description.json").write_text(json.dumps({"GeneratedBy": [{"Name": maker}]}))
        assert BIDSDataset(root=str(root)).simulated is expected


@pytest.mark.filterwarnings("ignore:.*later run")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: (r / "dataset_description.json").unlink(), "dataset.root is not the root of a BIDS dataset"),
        (lambda r: (r / "dataset_description.json").write_text("{"), "not valid JSON"),
        (lambda r: (r / "participants.tsv").write_text("id\tage\nsub-01\t3\n"), "no column 'participant_id'"),
        (lambda r: (r / "participants.tsv").write_text("participant_id\nsub-01\nsub-01\n"), "sub-01 has several rows"),
        (lambda r: (r / "participants.tsv").write_text("participant_id\tsex\nsub-01\t1\n"), "row 1 .*dataset.values"),
        (lambda r: touch(r / "derivatives/masks/sub-02/anat/sub-02_acq-x_desc-brain_mask.nii.gz"), "second brain mask"),
        (lambda r: [f.unlink() for f in r.glob("sub-*/**/*_T1w*")], "no T1w image"),
        (lambda r: (r / "derivatives/masks").rename(r / "other"), "dataset.mask_derivative=masks: no folder"),
    ],
)  # fmt: skip
def test_refuses(root, change, message):
    change(root)
    with pytest.raises(InputError, match=message):
        BIDSDataset(root=str(root), mask_derivative="masks").scans()
