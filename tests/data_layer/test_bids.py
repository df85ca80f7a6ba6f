import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from neuro_ssl.data.bids import BIDSDataset
from neuro_ssl.errors import InputError
from neuro_ssl.simulation import simulate_cohort

VALIDATOR = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent)) or shutil.which(
    "bids-validator-deno"
)


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


def test_acq_goes_before_run(root):
    for name in ("acq-mprage_run-1", "acq-mprage_run-2", "acq-spgr_run-3"):
        touch(root / f"sub-03/ses-a/anat/sub-03_ses-a_{name}_T1w.nii.gz")
    with pytest.warns(UserWarning, match="later run"):
        scans = BIDSDataset(root=str(root)).scans()
    assert Path(scans["image_path"].iloc[-1]).name == "sub-03_ses-a_acq-spgr_run-3_T1w.nii.gz"
    with pytest.warns(UserWarning) as record:
        scans = BIDSDataset(root=str(root), acq="mprage").scans()
    assert [Path(path).name for path in scans["image_path"]] == ["sub-03_ses-a_acq-mprage_run-2_T1w.nii.gz"]
    assert "6 T1w images are not acq-mprage and are left out" in str(record[0].message)
    with pytest.raises(InputError, match="acq=flair: no T1w image in .* has acq-flair; labels: mprage, spgr"):
        BIDSDataset(root=str(root), acq="flair").scans()


@pytest.mark.filterwarnings("ignore:.*later run")
def test_columns_by_name_by_session_and_codes_for_missing(root):
    (root / "participants.tsv").write_text(
        "participant_id\tAge1\tAge2\tGender\n01\t60\t64\t1\nsub-02\t70\tn/a\t9\n"  # an id without sub-
    )
    (root / "sub-01/sub-01_sessions.tsv").write_text("session_id\tGender\na\t2\nses-b\t9\n")
    columns = {"age_years": {"ses-a": "Age1", "ses-b": "Age2"}, "sex": "Gender"}
    scans = BIDSDataset(root=str(root), columns=columns, values={"sex": {1: "M", 2: "F", 9: None}}).scans()
    assert scans["age_years"].fillna(-1).tolist() == [60, 64, -1]  # nothing is known of sub-02, which has no sessions
    assert scans["sex"].fillna("").tolist() == ["F", "M", ""]  # session a corrects it, b knows nothing
    with pytest.raises(InputError, match=r"dataset\.columns\.age_years: .*no column 'Age3'; did you mean 'Age"):
        BIDSDataset(root=str(root), columns={"age_years": {"ses-a": "Age3"}}).scans()
    with pytest.raises(InputError, match=r"dataset\.values\.site: .*gives no column site"):
        BIDSDataset(root=str(root), columns=columns, values={"sex": {1: "M", 2: "F", 9: None}, "site": {}}).scans()


@pytest.mark.slow
def test_twenty_thousand_scans_are_indexed_in_a_minute(tmp_path):
    subjects = [f"sub-{i:05d}" for i in range(10_000)]
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    for subject in subjects:
        for session in ("ses-1", "ses-2"):
            touch(tmp_path / f"{subject}/{session}/anat/{subject}_{session}_T1w.nii.gz")
            touch(tmp_path / f"{subject}/{session}/anat/{subject}_{session}_T1w.json")
        (tmp_path / f"{subject}/{subject}_sessions.tsv").write_text("session_id\tage\nses-1\t50\nses-2\t52\n")
    lines = [f"{subject}\tF" for subject in subjects]
    (tmp_path / "participants.tsv").write_text("\n".join(["participant_id\tsex", *lines]))
    start = time.perf_counter()
    scans = BIDSDataset(root=str(tmp_path)).scans()
    seconds = time.perf_counter() - start
    assert len(scans) == 20_000 and scans["age_years"].tolist() == [50, 52] * 10_000
    assert seconds < 60, seconds


@pytest.mark.slow
@pytest.mark.skipif(VALIDATOR is None, reason="pip install 'neuro_ssl[bids]' brings the official BIDS validator")
def test_the_simulated_cohort_is_valid_bids(tmp_path):
    root = tmp_path / "simulated"
    everything = {"scanners_per_site": 2, "field_strengths": (1.5, 3.0), "retest_fraction": 0.5, "n_follow_ups": 2}
    simulate_cohort(root, n_subjects=4, spacing_mm=8, follow_up_fraction=0.5, n_jobs=1, **everything)
    assert VALIDATOR is not None
    done = subprocess.run([VALIDATOR, str(root), "--json"], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") == "error"] == [] and done.returncode == 0
