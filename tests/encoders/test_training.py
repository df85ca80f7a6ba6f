"""Every encoder through the real command: pretraining takes a step, and its weights are read back."""

import re

import pandas as pd
import pytest
import torch
import yaml

import neuro_ssl
from neuro_ssl.grid import Grid
from tests.conftest import run_command
from tests.encoders.tiny import TINY, over, volume
from tests.test_configs import CONF


def step(runs, data, *arguments):
    """One epoch of one batch of pairs on an 8 mm grid; the run's directory."""
    tiny = ["task=simclr", "dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{data}'", f"runs_dir='{runs}'"]
    tiny += ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"]
    run_command("train", *arguments, *tiny)
    (run,) = runs.glob("simclr-*")
    return run


def check(run, embed_dim):
    metrics = pd.read_csv(run / "metrics.csv").set_index("metric")["value"]
    assert 0 < metrics["train/loss"] < 10
    encoder = neuro_ssl.load_encoder(run)
    assert encoder.embed_dim == embed_dim
    with torch.no_grad():
        features = encoder(volume(2, Grid.named("8mm").shape))
    assert features.shape == (2, embed_dim) and features.isfinite().all()


def settings(name, **parameters):
    return [f"encoder={name}", *(f"encoder.{key}={value}" for key, value in (TINY[name] | parameters).items())]


def trains(name, runs, data):
    run = step(runs, data, *settings(name))
    parameters = yaml.safe_load((run / "run.yaml").read_text())["config"]["encoder"]
    assert parameters.items() >= TINY[name].items()
    check(run, 24 if name.startswith("vit") else neuro_ssl.load_encoder(run).embed_dim)


@over(["vit_tiny", "sfcn"])
def test_a_step(name, real_brains, tmp_path):
    trains(name, tmp_path, real_brains)


@pytest.mark.slow
@over([name for name in TINY if name not in ("vit_tiny", "sfcn")])
def test_a_step_of_the_others(name, real_brains, tmp_path):
    trains(name, tmp_path, real_brains)


def test_how_activations_are_kept_names_no_other_run(real_brains, tmp_path, capsys):
    run = step(tmp_path, real_brains, *settings("sfcn"))
    assert step(tmp_path, real_brains, *settings("sfcn", checkpoint_stages=2)) == run
    assert "already finished" in capsys.readouterr().out


def test_a_grid_too_small_for_the_encoder_is_refused_before_anything_is_written(real_brains, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        step(tmp_path, real_brains, "encoder=sfcn")
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: SFCN takes volumes of at least 32×32×32 voxels along (z, y, x), got 19×24×24: choose a finer grid or "
        "another encoder\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The documentation's example, written out as it says; in the folder where the command starts."""
    section = (CONF.parent / "docs" / "extending.md").read_text().partition("## An encoder")[2]
    code, conf = (re.search(rf"```{kind}\n(.*?)```", section, re.S)[1] for kind in ("python", "yaml"))
    assert len(code.splitlines()) <= 10
    (tmp_path / "my_encoders.py").write_text(code)
    (tmp_path / "my_conf" / "encoder").mkdir(parents=True)
    (tmp_path / "my_conf" / "encoder" / "plain.yaml").write_text(conf)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does
    return tmp_path


@pytest.mark.parametrize("found_by", [["--config-dir", "my_conf"], ["hydra.searchpath=[file://my_conf]"]])
def test_an_encoder_from_outside_the_package(own, real_brains, found_by):
    run = step(own / "runs", real_brains, *found_by, "encoder=plain", "encoder.width=8")
    check(run, 32)
    encoder = neuro_ssl.load_encoder(run)
    assert type(encoder).__module__ == "my_encoders"
    assert [len(group) for group in encoder.depth_groups()] == [2, 2]
    assert (
        encoder.feature_shape((19, 24, 24)) == encoder.forward_features(volume(1, (19, 24, 24))).shape[2:] == (3, 3, 3)
    )


def test_a_mistake_in_an_encoder_from_outside_is_named(own, real_brains, capsys):
    with pytest.raises(SystemExit):
        step(own / "runs", real_brains, "--config-dir", "my_conf", "encoder=plain", "+encoder.depth=3")
    assert "encoder.depth is not a parameter of my_encoders.Plain" in capsys.readouterr().err
