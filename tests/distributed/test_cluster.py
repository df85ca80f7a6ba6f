"""Jobs: the example of `sbatch` under bash, with stand-ins for what SLURM brings, and points of a sweep by submitit."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from neuro_ssl.points import read_points
from tests.distributed.test_command_over_ranks import CPU, ROOT, assert_equal_runs, cohort, of, only_run  # noqa: F401

pytestmark = pytest.mark.slow

# Starts two tasks, hands signals on, and kills what is left as soon as one of them fails.
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
command = sys.argv[next(i for i, word in enumerate(sys.argv) if i and not word.startswith("-")):]
assert "--kill-on-bad-exit=1" in sys.argv
step = {{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2", "SLURM_NODEID": "0"}}
tasks = [
    subprocess.Popen(command, env={{**os.environ, **step, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}})
    for i in range(2)
]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
while None in (codes := [task.poll() for task in tasks]):
    if any(codes):
        for task in tasks:
            task.kill()
    time.sleep(0.02)
sys.exit(max(codes, key=abs))
"""
SCONTROL = '#!/bin/sh\nsleep 1\necho "$@" >> scontrol.log\n'  # other processes must not have ended by then


@pytest.fixture
def sbatch(tmp_path, cohort, monkeypatch):  # noqa: F811
    """Begin the job as SLURM would; in its folder."""
    commands = {
        "bin/srun": SRUN,
        "bin/scontrol": SCONTROL,
        ".venv/bin/activate": f"PATH={Path(sys.executable).parent}:$PATH",
    }
    for name, text in commands.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    job = {
        "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NAME": "neuro_ssl",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "MASTER_PORT": str(port),
        "NEURO_SSL_DATA": str(cohort),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }

    def begin(*arguments):
        return subprocess.Popen(
            ["bash", ROOT / "experiments" / "cluster" / "train.sbatch", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **job},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def test_the_job_saves_in_time_is_queued_again_and_goes_on(sbatch, of, tmp_path, command):  # noqa: F811
    longer = ("trainer.max_epochs=8", "optimizer.learning_rate=0.00005")  # by which rounding hardly grows
    arguments = [*of("from_scratch", tmp_path / "runs"), *CPU, *longer]
    job = sbatch(*arguments)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/metrics.csv")):  # it trains
            assert job.poll() is None and time.monotonic() < deadline, job.communicate()[0]
            time.sleep(0.05)
        begin = time.monotonic()
        job.send_signal(signal.SIGUSR1)
        said = job.communicate(timeout=120)[0]
        assert time.monotonic() - begin < 60
    finally:
        job.kill()
    assert job.returncode == 128 + signal.SIGUSR1, said
    assert said.count("stopped by SIGUSR1") == 1, said
    assert said.count("requeued as SLURM job 12345") == 1, said
    assert (tmp_path / "scontrol.log").read_text() == "requeue 12345\n"
    run = only_run(tmp_path / "runs")
    assert (run / "checkpoints" / "last.ckpt").exists()

    again = sbatch(*arguments)
    try:
        said = again.communicate(timeout=240)[0]
    finally:
        again.kill()
    assert again.returncode == 0, said
    assert said.count("going on from its last checkpoint") == said.count(f"finished: {run}") == 1, said
    command("train", *of("from_scratch", tmp_path / "one"), *longer, "strategy=cpu")
    assert_equal_runs(run, only_run(tmp_path / "one"), within=1e-3)
    history = pd.read_csv(run / "metrics.csv")
    assert not history.duplicated(["step", "metric"]).any()


def test_points_of_a_sweep_have_two_processes_each(of, tmp_path, command):  # noqa: F811
    arguments = [*of("from_scratch", tmp_path / "runs"), *CPU, "strategy=ddp", "trainer.devices=2", "seed=0,1"]
    submitit = ["hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "hydra.sweeper.max_batch_size=1"]
    subprocess.run(
        [sys.executable, "-m", "neuro_ssl.train", "-m", *arguments, *submitit], cwd=ROOT, check=True, timeout=300
    )
    (sweep,) = (tmp_path / "runs" / ".sweeps").iterdir()
    points = read_points(sweep)
    assert [point.status for point in points] == ["finished"] * 2
    command("train", *of("from_scratch", tmp_path / "one"), "strategy=cpu")
    assert_equal_runs(points[0].run, only_run(tmp_path / "one"))
