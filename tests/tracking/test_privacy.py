import os
from pathlib import Path

import pytest
import wandb

from neuro_ssl.errors import InputError
from neuro_ssl.tracking import tensorboard, wandb_logger
from neuro_ssl.tracking.privacy import KEY_FILE, KeyedHash, without_places
from tests.faults.disturbance import options

LEAVES = [
    "hf://org/name@v1.0",
    "mg/dl",
    "sub-{MRID}_T1.nii.gz",
    "1/2",
    "neuro_ssl.optim.Optimizer",
    "anat/*_T1w.nii.gz",
    "n/a",
]
STAYS = {
    "/data/ixi": "[path]",
    "/data/my patients/a, b": "[path]",
    "~someone/ixi": "[path]",
    "../patients/42": "[path]",
    "./patients": "[path]",
    r"C:\patients\42": "[path]",
    "file:///data/42": "[path]",
    "weights=/data/42, seed=1": "weights=[path]",
}


def test_paths_are_taken_out_and_nothing_else():
    for text in LEAVES:
        assert without_places(text) == text
    for text, left in STAYS.items():
        assert without_places({"a": [{"b": text}]}) == {"a": [{"b": left}]}


def test_keys_that_name_places_are_left_out():
    config = {"data_dir": "data", "seed": 1, "dataset": {"root": "x", "table": None, "cohort": "c"}, "/data/1": 0}
    assert without_places(config) == {"seed": 1, "dataset": {"cohort": "c"}, "[path]": 0}


def test_hashes_are_the_same_in_one_folder_of_runs_and_others_elsewhere(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    here, again, elsewhere = (KeyedHash(tmp_path / name)("c/1") for name in "aab")
    assert here == again != elsewhere
    assert KeyedHash(tmp_path / "a")("c/2") != here


def test_a_key_that_others_may_read_is_refused(tmp_path):
    KeyedHash(tmp_path)
    os.chmod(tmp_path / KEY_FILE, 0o644)  # noqa: PTH101
    with pytest.raises(InputError, match="chmod 600"):
        KeyedHash(tmp_path)


def test_a_damaged_key_is_refused(tmp_path):
    (tmp_path / KEY_FILE).touch(0o600)
    with pytest.raises(InputError, match="too short"):
        KeyedHash(tmp_path)
    (tmp_path / KEY_FILE).write_text("not hexadecimal")
    with pytest.raises(InputError, match=r"no key .* logger.ids=local"):
        KeyedHash(tmp_path)


def test_that_is_told_before_training(tmp_path, random_scans, command, capsys):
    KeyedHash(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    tracked = [*options("from_scratch", tmp_path, random_scans.path.parents[2], "task=sex"), "logger=wandb"]
    with pytest.raises(SystemExit):
        command("train", *tracked, "logger.ids=hashed")
    assert "chmod 600" in capsys.readouterr().err
    assert not list(tmp_path.glob("*/checkpoints"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="shows the commands of processes")
def test_the_client_sends_no_reports_of_its_own_errors(tmp_path, monkeypatch):
    """They hold paths; W&B's service is told so on its command line."""
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    wandb.teardown()
    wandb_logger(str(tmp_path), "n", mode="offline").experiment.finish()
    commands = [file.read_bytes().split(b"\0") for file in Path("/proc").glob("[0-9]*/cmdline")]
    (service,) = [command for command in commands if b"--pid" in command and str(os.getpid()).encode() in command]
    assert b"--no-observability" in service


def test_without_tensorboard_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'neuro_ssl\[tensorboard\]'"):
        tensorboard.tensorboard_logger(str(tmp_path))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("logger.images=true", "logger.images=True: local keeps"),
        ("logger.ids=plain", "logger.ids=plain: local keeps"),
        ("logger.wandb.images=true", "logger.wandb.images is no key; logger.images is one"),
        ("+logger.image=upload", "logger.image: expected a component"),
    ],
)
def test_a_switch_is_one_of_two(option, message, command, capsys):
    with pytest.raises(SystemExit):
        command("train", option)
    assert message in capsys.readouterr().err
