"""The wheel, installed and used from a folder of the user's own: `neuro-ssl train` as every launcher starts it.

The rest of the environment is the tests': what pip would fetch beside it is there already.
"""

import os
import subprocess
import sys
import tarfile

import pytest
import yaml

from tests.distributed.commands import arguments
from tests.test_packaging import ROOT, build

pytestmark = pytest.mark.slow

ENCODER = """
from neuro_ssl.encoders import Encoder
from torch import nn


class Plain(Encoder):
    def __init__(self, width: int = 32):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, width, 5, stride=4, padding=2), nn.ReLU())
        self.embed_dim, self.stride = width, (4, 4, 4)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip installed the wheel of this checkout into."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", folder, wheel]
    subprocess.run(pip, check=True)
    return folder


@pytest.fixture
def start(installed, random_scans, tmp_path):
    """Run words in a folder with `my_encoders.py`, then training's options; what the command printed."""
    (tmp_path / "my_encoders.py").write_text(ENCODER)
    (tmp_path / "my_conf" / "encoder").mkdir(parents=True)
    (tmp_path / "my_conf" / "encoder" / "plain.yaml").write_text("_target_: my_encoders.Plain\nwidth: 8\n")
    (tmp_path / "which.py").write_text("import neuro_ssl; print(neuro_ssl.__file__)")
    script = installed / "bin" / "neuro-ssl"
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def command(*words, more=()):
        ddp = [word for word in arguments(random_scans, tmp_path / "runs") if not word.startswith("encoder.")]
        options = ("--config-dir", "my_conf", "encoder=plain", "trainer.max_epochs=1", "representation_every_epochs=0")
        words = [script if word == "neuro-ssl" else word for word in words]
        done = subprocess.run(
            [*words, *options, *ddp, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    which = subprocess.run([sys.executable, "which.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert which.stdout.startswith(str(installed))
    return command


def test_processes_that_lightning_starts_and_the_same_run_by_python_m(start, tmp_path):
    assert "finished: " in start("neuro-ssl", "train")
    (run,) = (tmp_path / "runs").glob("simclr_pretrain-*")
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["command"].startswith("python -m neuro_ssl.train --config-dir my_conf encoder=plain")
    assert start(sys.executable, "-m", "neuro_ssl.train").startswith(f"already finished: {run}")


def test_processes_that_torchrun_starts(start, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python")
    assert "finished: " in start(sys.executable, *torchrun, "neuro-ssl", "train")
    assert len(list((tmp_path / "runs").glob("simclr_pretrain-*"))) == 1


def test_a_sweep_by_joblib(start, tmp_path):
    more = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "trainer.devices=1", "strategy=cpu")
    start("neuro-ssl", "train", "-m", more=more)
    assert len(list((tmp_path / "runs").glob("simclr_pretrain-*"))) == 2


def test_a_source_distribution_makes_the_wheel_of_the_checkout(tmp_path):
    for name in ("sources", "from checkout", "from sources"):
        (tmp_path / name).mkdir()
    with tarfile.open(build("sdist", ROOT, tmp_path / "sources")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheels = [
        build("wheel", source, tmp_path / f"from {name}")
        for name, source in (("checkout", ROOT), ("sources", unpacked))
    ]
    assert wheels[0].name == wheels[1].name
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
