"""`trainer.deterministic=true`: bit for bit on the CPU, whatever the surroundings; else one line that says why not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from neuro_ssl.determinism import indeterminism_told
from neuro_ssl.rerunning.outcome import outcome

DATA = ("dataset=csv", "dataset.cohort=c", "grid=16mm", "strategy=cpu", "logger=csv", "batch_size=4")
LATER = "import os, time\nreal = time.time\ntime.time = lambda: real() + 86400 * 400\n"


class Refused(nn.Module):
    """Features by way of a step that PyTorch has in no deterministic form, on the CPU either."""

    embed_dim = 1

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, volume):
        torch.zeros(3).put_(torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
        return self.scale * volume.mean(dim=(1, 2, 3, 4))[:, None]


def test_an_operation_that_is_not_deterministic_is_named_with_remedies(random_scans, tmp_path, command, capsys):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "refused.yaml").write_text("_target_: tests.test_determinism.Refused\n")
    options = ["--config-dir", tmp_path, "+experiment=from_scratch", "task=sex", "encoder=refused", *DATA]
    options += [f"data_dir={random_scans.path.parents[2]}", f"runs_dir={tmp_path}", "num_workers=0"]
    with pytest.raises(SystemExit):
        command("train", *options, "trainer.max_epochs=1", "trainer.deterministic=true")
    told = "error: trainer.deterministic=true: put_ has no deterministic algorithm on this device; choose an encoder "
    assert told in (shown := capsys.readouterr().err) and "Traceback" not in shown
    command("train", *options, "trainer.max_epochs=1")
    with pytest.raises(RuntimeError, match="another error"), indeterminism_told():
        raise RuntimeError("another error")


def train(runs, store, *arguments, cwd, **environment):
    """The command in a process of its own, and the run that it made."""
    command = [sys.executable, "-m", "neuro_ssl.train", *arguments, *DATA, f"data_dir={store.path.parents[2]}"]
    names = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([*command, f"runs_dir={runs}"], cwd=cwd, env=names, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = Path(cwd, runs).glob("*/run.yaml")
    return run.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        ["+experiment=simclr_pretrain", "encoder.width=8"],
        ["+experiment=mae_pretrain", "encoder.n_layers=2", "encoder.patch_size=[4,4,4]"],
        ["+experiment=from_scratch", "task=sex", "encoder.width=8"],
    ],
    ids=["simclr", "mae", "from_scratch"],
)
def test_two_processes_train_the_same_bit_for_bit_whatever_is_around_them(recipe, random_scans, tmp_path):
    """Another hash seed, time zone, locale, date, folder, name of runs, number of loading processes."""
    source = str(Path(__file__).parents[1])
    recipe = [*recipe, "trainer.deterministic=true", "trainer.max_epochs=3"]
    here, there, later = tmp_path / "here", tmp_path / "there" / "deeper", tmp_path / "later"
    for folder in (here, there, later):
        folder.mkdir(parents=True)
    (later / "sitecustomize.py").write_text(LATER)
    surroundings = {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C", "PYTHONPATH": source}
    one = train("runs", random_scans, *recipe, "num_workers=0", cwd=here, **surroundings)
    surroundings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8"}
    surroundings["PYTHONPATH"] = f"{later}{os.pathsep}{source}"
    other = train("elsewhere", random_scans, *recipe, "num_workers=2", cwd=there, **surroundings)
    started = [yaml.safe_load((run / "run.yaml").read_text()) for run in (one, other)]
    assert [record["config"]["trainer"]["deterministic"] for record in started] == [True, True]
    found = outcome(one, other)
    assert {finding.what for finding in found} >= {"history", "last weights"}
    assert all(finding.same for finding in found), [finding.told for finding in found]
    assert (one / "splits.csv").read_bytes() == (other / "splits.csv").read_bytes()


@pytest.mark.slow
def test_a_rerun_takes_as_many_threads_as_the_original_had(random_scans, tmp_path):
    """With another number sums are added up in another order, which shows."""
    recipe = ("+experiment=from_scratch", "task=sex", "encoder.width=8", "trainer.max_epochs=1", "num_workers=0")
    one = train("one", random_scans, *recipe, cwd=tmp_path)
    two = train("two", random_scans, *recipe, cwd=tmp_path, OMP_NUM_THREADS="2")
    assert [yaml.safe_load((r / "run.yaml").read_text())["hardware"]["threads"] for r in (one, two)] == [1, 2]
    assert not all(finding.same for finding in outcome(one, two))
    again = [sys.executable, "-m", "neuro_ssl.rerun", str(two)]
    done = subprocess.run(again, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
