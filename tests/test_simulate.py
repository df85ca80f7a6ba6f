import inspect
import json
import subprocess
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

import bids2table
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from neuro_ssl.data.bids import BIDSDataset
from neuro_ssl.files import CONF_DIR, LEFTOVER
from neuro_ssl.schemas import SimulateConfig
from neuro_ssl.simulation import simulate_cohort
from neuro_ssl.simulation.effects import RealisticEffects

SMALL = ("n_subjects=6", "spacing_mm=8", "follow_up_fraction=0.5", "n_jobs=1")


def files(root):
    return {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort") / "simulated"
    simulate_cohort(root, n_subjects=6, spacing_mm=8, follow_up_fraction=0.5, n_jobs=1)
    return root


def test_the_folder_is_the_plan_as_bids_reads_it(cohort):
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", na_values="n/a")
    described = json.loads((cohort / "participants.json").read_text())
    assert list(people.columns) == ["participant_id", *described]
    assert len(people) == 6 and set(people["sex"]) == {"F", "M"} and people["age"].between(20, 90).all()

    planned = set()
    for subject in people["participant_id"]:
        sessions = pd.read_csv(cohort / subject / f"{subject}_sessions.tsv", sep="\t")
        assert sessions["age"][0] == people.set_index("participant_id")["age"][subject]
        planned |= {(subject.removeprefix("sub-"), s.removeprefix("ses-")) for s in sessions["session_id"]}
    assert len(planned) == 10

    for root, suffix in ((cohort, "T1w"), (cohort / "derivatives" / "masks", "mask")):
        index = bids2table.index_dataset(root).to_pandas()
        images = index[(index["suffix"] == suffix) & (index["ext"] == ".nii.gz")]
        assert set(zip(images["sub"], images["ses"], strict=True)) == planned and len(images) == 10
        assert all((root / path.replace(".nii.gz", ".json")).is_file() for path in images["path"])
    maker = json.loads((cohort / "dataset_description.json").read_text())["GeneratedBy"]
    assert [entry["Name"] for entry in maker] == ["neuro_ssl.simulate"]


def test_images_are_int16_heads_with_masks_on_their_grid(cohort):
    for name, path in files(cohort).items():
        if name.endswith("_T1w.nii.gz"):
            image = nib.load(path)
            mask = nib.load(cohort / "derivatives/masks" / name.replace("_T1w", "_desc-brain_mask"))
            assert image.get_data_dtype() == np.int16 and image.shape == mask.shape
            np.testing.assert_allclose(image.affine, mask.affine)
            np.testing.assert_allclose(image.header.get_zooms(), 8, atol=1e-4)
            inside = np.asarray(mask.dataobj) > 0
            assert 1200 < inside.sum() * 0.512 < 2500  # ml
            assert image.get_fdata()[inside].mean() > 2 * image.get_fdata()[~inside].mean()


def test_the_same_subjects_whatever_the_cohort_and_the_processes(cohort, command, tmp_path):
    command("simulate", f"output={tmp_path / 'd'}", *SMALL, "n_subjects=2", "n_jobs=2")
    images = {name: path for name, path in files(tmp_path / "d").items() if name.endswith(".nii.gz")}
    assert len(images) >= 4
    for name, path in images.items():
        assert path.read_bytes() == (cohort / name).read_bytes(), name


def test_sessions_and_images_name_their_scanner_and_the_manifest_has_it(command, tmp_path):
    root = tmp_path / "d"
    more = ("scanners_per_site=2", "field_strengths=[1.5,3.0]", "n_follow_ups=2", "retest_fraction=0.6")
    command("simulate", f"output={root}", *SMALL, *more)
    described = json.loads((root / "sessions.json").read_text())
    sessions = {}
    for path in root.glob("sub-*/*_sessions.tsv"):
        table = pd.read_csv(path, sep="\t")
        assert list(table.columns) == ["session_id", *described]
        assert table["visit"][0] == "baseline" and table["days"].is_monotonic_increasing
        sessions |= {(path.parent.name, row["session_id"]): row for _, row in table.iterrows()}
    visits = [row["visit"] for row in sessions.values()]
    assert set(visits) == set(described["visit"]["Levels"]) and visits.count("retest") in (3, 4)
    for (subject, session), row in sessions.items():
        about = json.loads((root / subject / session / "anat" / f"{subject}_{session}_T1w.json").read_text())
        assert about["DeviceSerialNumber"] == row["scanner"] and about["MagneticFieldStrength"] == row["field_strength"]
        assert about["InstitutionName"].startswith(row["site"]) and about["ManufacturersModelName"].endswith("T")

    manifest = BIDSDataset(root=str(root), cohort="simulated", mask_derivative="masks").scans()
    assert len(manifest) == len(sessions) and manifest["scanner"].nunique() > 2
    for _, scan in manifest.iterrows():
        row = sessions[scan["subject_id"].removeprefix("simulated/"), scan["session_id"]]
        assert (scan["scanner"], scan["site"], scan["age_years"]) == (row["scanner"], row["site"], row["age"])


def test_effects_are_a_choice_with_sizes(command, tmp_path, capsys):
    root = tmp_path / "d"
    command("simulate", f"output={root}", *SMALL, "n_subjects=1", "effects=realistic", "effects.ventricle_mm=0.5")
    recorded = json.loads((root / "simulation.json").read_text())["effects"]
    sizes = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(RealisticEffects()).items()}
    assert recorded == sizes | {"ventricle_mm": 0.5}
    for wrong, message in (
        ("effects.ventricle_mm=6.0", "effects.ventricle_mm=0.5"),  # what the folder holds
        ("effects.noise=[0.1,0.0]", "effects.noise must be two numbers"),
        ("+effects.ventrikel_mm=1", "did you mean ventricle_mm"),
        ("effects.interpolation=2", "effects.interpolation=2"),
        ("field_strengths=[7.0]", "field_strengths must be a list of 1.5 and 3, got [7.0]"),
    ):
        with pytest.raises(SystemExit):
            command("simulate", f"output={root}", *SMALL, "n_subjects=1", "effects=realistic", wrong)
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_killed_its_workers_end_and_it_goes_on_to_the_same_files(tmp_path):
    arguments = [sys.executable, "-m", "neuro_ssl.simulate", "n_subjects=40", "spacing_mm=4", "n_jobs=2"]
    killed = subprocess.Popen([*arguments, f"output={tmp_path / 'a'}"], stderr=subprocess.PIPE)
    while len(list((tmp_path / "a").rglob("*_T1w.nii.gz"))) < 10:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.communicate(timeout=60)  # the workers hold its stderr open for as long as they live
    done = len(list((tmp_path / "a").rglob("*_mask.nii.gz")))
    assert done < 40
    for name in "ab":
        subprocess.run([*arguments, f"output={tmp_path / name}"], check=True)
    whole, again = (
        {name: path.read_bytes() for name, path in files(tmp_path / root).items() if not LEFTOVER.match(path.name)}
        for root in "ba"
    )
    assert again == whole


def test_again_does_nothing_and_an_interrupted_run_goes_on(cohort, command, capsys):
    before = {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in files(cohort).items()}
    command("simulate", f"output={cohort}", *SMALL)
    assert "nothing to do" in capsys.readouterr().out
    assert {name: path.stat().st_mtime_ns for name, path in files(cohort).items()} == {
        name: mtime for name, (mtime, _) in before.items()
    }

    lost = [name for name in before if name.startswith("sub-0003") or name == "participants.json"]
    for name in lost:
        (cohort / name).unlink()
    half_written = cohort / next(name for name in lost if name.endswith(".nii.gz"))
    half_written = half_written.with_name(f".1.{half_written.name}")
    half_written.write_bytes(b"interrupted")
    command("simulate", f"output={cohort}", *SMALL)
    half_written.unlink()
    after = files(cohort)
    assert {name: path.read_bytes() for name, path in after.items()} == {n: b for n, (_, b) in before.items()}
    # A scan is made whole: its mask is written again with it.
    rewritten = {name for name, path in after.items() if path.stat().st_mtime_ns != before[name][0]}
    assert rewritten == set(lost) | {name for name in before if "sub-0003" in name and name.endswith("mask.nii.gz")}


def test_other_settings_are_refused_unless_overwrite(command, tmp_path, capsys):
    root = tmp_path / "d"
    command("simulate", f"output={root}", *SMALL, "n_subjects=3")
    (root / "sub-0099").mkdir()
    (root / "sub-0099" / "mine.txt").write_text("mine")
    old = (root / "sub-0001/ses-01/anat/sub-0001_ses-01_T1w.nii.gz").read_bytes()
    with pytest.raises(SystemExit):
        command("simulate", f"output={root}", *SMALL, "n_subjects=1", "seed=1")
    refusal = capsys.readouterr().err
    assert all(word in refusal for word in ("overwrite=true", "output=", "seed=0", "n_subjects=3"))

    command("simulate", f"output={root}", *SMALL, "n_subjects=1", "seed=1", "overwrite=true")
    assert (root / "sub-0001/ses-01/anat/sub-0001_ses-01_T1w.nii.gz").read_bytes() != old
    assert sorted(path.name for path in root.glob("sub-*")) == ["sub-0001", "sub-0099"]
    assert (root / "sub-0099" / "mine.txt").read_text() == "mine"
    assert len(pd.read_csv(root / "participants.tsv", sep="\t")) == 1


def test_a_folder_of_something_else_is_left_alone(command, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit):
        command("simulate", f"output={tmp_path}", *SMALL, "overwrite=true")
    assert "choose another output=" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n_subjects=0", "n_subjects must be from 1 to 9999, got 0"),
        ("spacing_mm=20", "spacing_mm must be"),
        ("age_range=[60,50]", "age_range must be"),
        ("age_range=[20,50]", "set alzheimers_fraction=0"),
        ("stroke_fraction=0.9", "add up to more than 1"),
        ("n_jobs=0", "n_jobs must be 1 or more, got 0"),
    ],
)
def test_arguments_out_of_range_are_named(command, tmp_path, capsys, override, message):
    with pytest.raises(SystemExit):
        command("simulate", f"output={tmp_path / 'd'}", *SMALL, override)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_the_configuration_repeats_the_functions_defaults():
    shown = yaml.safe_load((Path(CONF_DIR) / "simulate.yaml").read_text())
    parameters = inspect.signature(simulate_cohort).parameters
    assert {field.name for field in fields(SimulateConfig)} == {*parameters, "debug", "data_dir"}
    for name, parameter in parameters.items():
        if name not in ("output", "effects"):  # effects: a group of its own, which tests/test_configs.py holds
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert shown[name] == default, name
