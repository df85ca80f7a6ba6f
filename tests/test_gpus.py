"""Processes side by side claim one GPU each. None is needed here: what is listed may be claimed."""

import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from neuro_ssl import gpus
from neuro_ssl.errors import InputError
from neuro_ssl.files import CONF_DIR

CLAIM = """
import os
from neuro_ssl.gpus import claim_gpu
claim_gpu()
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
input()
"""


@pytest.fixture(autouse=True)
def locks(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(gpus, "_claimed", None)


def claiming(listed):
    """A process that claims one of these GPUs, says which, and holds it until it is ended."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": listed}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CLAIM], env=environment, **pipes)


def test_no_two_processes_have_one_gpu_and_a_killed_one_lets_go():
    listed = "GPU-8d2f,MIG-4e1b/7/0"
    first, second = claiming(listed), claiming(listed)
    try:
        names = [process.stdout.readline().strip() for process in (first, second)]
        assert sorted(names) == sorted(listed.split(","))
        third = claiming(listed)
        try:
            assert third.stdout.readline().startswith("waiting for a GPU: other processes hold GPU-8d2f, MIG-4e1b/7/0")
            second.kill()
            assert third.stdout.readline().strip() == names[1]
        finally:
            third.kill()
            third.communicate()
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_a_process_keeps_its_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    for _ in range(2):
        gpus.claim_gpu(2)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert gpus.visible_gpus() == ["3"]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(
        InputError, match=r"hydra.launcher.n_jobs=3: .* there are 2 GPUs .* set hydra.launcher.n_jobs=2"
    ):
        gpus.claim_gpu(3)


@pytest.mark.parametrize(("listed", "names"), [("", []), ("-1", []), ("2, 0", ["2", "0"]), ("1,-1,2", ["1"])])
def test_what_cuda_would_see(monkeypatch, listed, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert gpus.visible_gpus() == names
    gpus.claim_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (names[0] if names else listed)


@pytest.mark.parametrize(
    ("name", "arguments", "n_jobs"),
    [("train", ["strategy=gpu"], 3), ("train", ["strategy=cpu"], -1), ("preprocess", [], -1)],
)
def test_a_sweep_runs_as_many_points_at_a_time_as_there_are_gpus_to_use(monkeypatch, name, arguments, n_jobs):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(name, [*arguments, "hydra/launcher=joblib"], return_hydra_config=True)
    assert cfg.hydra.launcher.n_jobs == n_jobs
