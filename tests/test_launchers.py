"""Sweeps in processes of their own, by real commands: joblib, submitit; killed as a whole, and process by process."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import pytest
import torch
import yaml

from neuro_ssl.points import read_points

pytestmark = pytest.mark.slow

# A training transform that notes the process's GPU, and as often as it is told sends its process a signal.
DEADLY = """
import os, signal
from pathlib import Path
from monai.transforms import Transform

class Deadly(Transform):
    def __init__(self, folder: str, times: int, signal: int = signal.SIGKILL):
        self.folder, self.times, self.signal, self.calls = Path(folder), times, signal, 0

    def __call__(self, volume):
        (self.folder / f"gpu-{os.getpid()}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
        deaths = len(list(self.folder.glob(f"death-{self.times}-*")))
        self.calls += 1
        if deaths < self.times and self.calls > 10:  # in the second epoch, of three
            (self.folder / f"death-{self.times}-{deaths}").touch()
            os.kill(os.getpid(), self.signal)
        return volume
"""


@pytest.fixture
def sweep(random_scans, tmp_path):
    """Start `python -m neuro_ssl.train -m` with these arguments, on a tiny encoder, in a session of its own."""
    training = [
        *("+experiment=from_scratch", "task=brain_age", "encoder.width=8", "trainer.max_epochs=3", "batch_size=4"),
        *("num_workers=0", "dataset=csv", "dataset.cohort=c", "grid=16mm", "logger=csv", "checkpoint_minutes=0"),
        f"data_dir={random_scans.path.parents[2]}",
    ]
    (tmp_path / "deadly.py").write_text(DEADLY)
    environment = os.environ | {"TMPDIR": str(tmp_path), "WANDB_MODE": "offline"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def start(*arguments, **variables):
        words = [sys.executable, "-m", "neuro_ssl.train", "-m", *training, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, env=environment | variables, start_new_session=True, **pipes)

    return start


def ended(process, timeout=300):
    """Exit status, and what it printed; whatever happens, nothing of it is left."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        kill(process)
    return process.returncode, out, err


def kill(process):
    """The whole group, as a machine that goes down does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def record_of(run):
    return yaml.safe_load((run / "run.yaml").read_text())


def test_a_killed_sweep_is_done_when_it_is_given_again_bit_for_bit(sweep, tmp_path):
    grid = ["seed=0,1,2,3", "optimizer.learning_rate=0.001,0.01", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    grid += ["strategy=cpu", "open_test=true"]
    begin = time.monotonic()
    status, out, err = ended(sweep(*grid, f"runs_dir={tmp_path / 'undisturbed'}"))
    assert status == 0, err
    seconds = time.monotonic() - begin

    runs = tmp_path / "killed"
    process = sweep(*grid, f"runs_dir={runs}")
    until = time.monotonic() + 120
    while not list(runs.glob("*/checkpoints/last.ckpt")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(random.uniform(0, 0.7 * seconds))  # a point takes a small part of that
    kill(process)
    before = {run.name: record_of(run) for run in runs.glob("from_scratch-*") if (run / "run.yaml").exists()}
    status, out, err = ended(sweep(*grid, f"runs_dir={runs}"))
    assert status == 0, err
    assert ": 8 points, 8 finished" in out
    print(f"{sum(record['status'] == 'finished' for record in before.values())} of 8 had finished when it was killed")

    expected = sorted((tmp_path / "undisturbed").glob("from_scratch-*"))
    assert [run.name for run in expected] == sorted(run.name for run in runs.glob("from_scratch-*"))
    assert len(expected) == 8
    for one, other in ((run, runs / run.name) for run in expected):
        record = record_of(other)
        assert record["status"] == "finished"
        if before.get(other.name, {}).get("status") == "finished":
            assert record == before[other.name]  # it was not touched
        pd.testing.assert_frame_equal(*(pd.read_parquet(run / "predictions.parquet") for run in (one, other)))
        assert record["validation"] == record_of(one)["validation"]
        histories = [pd.read_csv(run / "metrics.csv").query("metric.str.contains('loss')") for run in (one, other)]
        pd.testing.assert_frame_equal(*(history.reset_index(drop=True) for history in histories))
        weights = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)]
        for name, tensor in weights[0]["state_dict"].items():
            assert torch.equal(tensor, weights[1]["state_dict"][name]), name


def test_the_processes_of_a_sweep_whose_first_one_ends_save_their_state_and_end(sweep, tmp_path):
    runs = tmp_path / "runs"
    long = ["trainer.max_epochs=5000", "early_stopping_patience=null", "checkpoint_minutes=60", "strategy=cpu"]
    process = sweep("seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *long, f"runs_dir={runs}")
    try:
        until = time.monotonic() + 120
        while len(list(runs.glob("*/checkpoints/best.ckpt"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=10)
        until = time.monotonic() + 60
        while alive(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert not alive(process.pid)
    finally:
        kill(process)
    assert not any(record_of(run)["status"] == "finished" for run in runs.glob("from_scratch-*"))
    assert len(list(runs.glob("*/checkpoints/last.ckpt"))) == 2


def alive(group):
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def test_a_process_that_is_killed_takes_no_other_point_along_and_each_has_a_gpu_of_its_own(sweep, tmp_path):
    runs = f"runs_dir={tmp_path / 'runs'}"
    deadly = [f"dataset.transform={{_target_: deadly.Deadly, folder: '{tmp_path}', times: 0}}"]
    deadly += ["dataset.transform.times=0,1,9", "hydra/launcher=joblib", "strategy=auto", runs]
    status, out, err = ended(sweep(*deadly, CUDA_VISIBLE_DEVICES="GPU-a,GPU-b"))
    assert status == 1
    assert "a process of the sweep was killed" in err
    (folder,) = (tmp_path / "runs" / ".sweeps").iterdir()
    points = read_points(folder)
    assert [point.status for point in points] == ["finished", "finished", "failed"]
    assert "its process was killed twice" in points[2].reason
    assert "failed: its process was killed twice" in out
    assert len(list(tmp_path.glob("death-1-*"))) == 1
    assert {file.read_text() for file in tmp_path.glob("gpu-*")} == {"GPU-a", "GPU-b"}

    status, out, err = ended(sweep(*deadly, "hydra.launcher.n_jobs=3", CUDA_VISIBLE_DEVICES="GPU-a,GPU-b"))
    assert status == 1
    assert err.count("error: hydra.launcher.n_jobs=3: 3 points at a time, but there are 2 GPUs") == 3


def test_submitit_starts_a_process_a_point_and_they_take_turns_on_a_gpu(sweep, tmp_path):
    runs = tmp_path / "runs"
    seen = f"dataset.transform={{_target_: deadly.Deadly, folder: '{tmp_path}', times: 0}}"
    arguments = [seen, "seed=0,1", "hydra/launcher=submitit_local", "strategy=auto", f"runs_dir={runs}"]
    status, out, err = ended(sweep(*arguments, CUDA_VISIBLE_DEVICES="GPU-a"))
    assert status == 0, err
    assert ": 2 points, 2 finished" in out
    seen = [file.read_text() for file in tmp_path.glob("gpu-*")]
    assert seen == ["GPU-a", "GPU-a"]
    records = [record_of(run) for run in runs.glob("from_scratch-*")]
    assert all(record["command"].startswith("python -m neuro_ssl.train -m +experiment") for record in records)
    (folder,) = (runs / ".sweeps").iterdir()
    waited = [file.read_text().count("waiting for a GPU") for file in folder.glob(".submitit/*/*_log.out")]
    assert sorted(waited) in ([0, 1], [0, 0])  # unless the first was through before the second began


SBATCH = """#!/bin/bash
# Keeps the job's script, and runs its two tasks as SLURM would.
cp "$1" {folder}/job.sh
for task in 0 1; do
  SLURM_JOB_ID=12$task SLURM_ARRAY_JOB_ID=123 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 \\
    SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_NODELIST=node bash "$1" >> {folder}/job.log 2>&1 &
done
echo "Submitted batch job 123"
"""
SRUN = """#!/bin/bash
out=/dev/stdout err=/dev/stderr
while [[ $1 == --* ]]; do
  case $1 in --output) out=$2; shift;; --error) err=$2; shift;; esac
  shift
done
name() { local path=${1//%A/123}; path=${path//%a/$SLURM_ARRAY_TASK_ID}; echo "${path//%t/0}"; }
exec "$@" >> "$(name "$out")" 2>> "$(name "$err")"
"""
SCONTROL = """#!/bin/bash
echo "$*" >> {folder}/scontrol.log
SLURM_RESTART_COUNT=1 bash {folder}/job.sh >> {folder}/job.log 2>&1 &
"""
SACCT = "#!/bin/bash\necho 'JobID|State|NodeList'\nfor task in 0 1; do echo \"123_$task|RUNNING|node\"; done\n"


def test_slurm_gets_an_array_of_jobs_and_starts_one_again_whose_time_is_up(sweep, tmp_path):
    """With stand-ins for SLURM's commands. Each job really runs; one is told, as SLURM tells it, that it has to end."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scontrol": SCONTROL}.items():
        (tools / name).write_text(text.replace("{folder}", str(tmp_path)))
        (tools / name).chmod(0o755)
    arguments = [f"dataset.transform={{_target_: deadly.Deadly, folder: '{tmp_path}', times: 0, signal: 12}}"]
    arguments += ["dataset.transform.times=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"]
    arguments += ["strategy=cpu"]
    arguments += ["hydra.launcher.timeout_min=30", f"runs_dir={tmp_path / 'runs'}"]
    status, out, err = ended(sweep(*arguments, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}"))
    assert status == 0, f"{err}\n{(tmp_path / 'job.log').read_text()}"
    assert ": 2 points, 2 finished" in out
    script = (tmp_path / "job.sh").read_text()
    flags = dict(line[10:].split("=", 1) for line in script.splitlines() if line.startswith("#SBATCH --"))
    expected = {"array": "0-1%2", "gpus-per-node": "1", "cpus-per-task": "8", "ntasks-per-node": "1", "time": "30"}
    expected |= {"partition": "gpu", "signal": "USR2@120", "open-mode": "append", "mem": "32GB", "nodes": "1"}
    assert {key: flags.get(key) for key in expected} == expected
    (folder,) = (tmp_path / "runs" / ".sweeps").iterdir()
    assert [point.status for point in read_points(folder)] == ["finished", "finished"]
    assert (tmp_path / "scontrol.log").read_text().split() == ["requeue", "123_1"]
    (log,) = folder.glob(".submitit/*/123_1_0_log.out")
    assert re.search(r"stopped by SIGUSR2 after step \d+ with its state saved", log.read_text())
    assert "going on from its last checkpoint" in log.read_text()
