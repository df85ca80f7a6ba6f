"""Who started the processes, and a clear word where that and what the trainer is to use don't go together."""

import functools
import os
import re
import time

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import OmegaConf
from torch import nn

from neuro_ssl.config import plain
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.processes import HEAD_START_S
from neuro_ssl.trainer import Srun, build_trainer
from tests.test_configs import composed

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN |= {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "2"}
JOB = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
JOB |= {"SLURM_NNODES": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "n[1-2]"}
STEP = {**JOB, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1"}
SUBMITIT = {**TORCHRUN, "SUBMITIT_LOCAL_NTASKS": "2"}
SUBMITIT.pop("TORCHELASTIC_RUN_ID")
TWO = ("strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@functools.cache
def chosen(*groups):
    """Of these choices; composed once."""
    return composed(*groups)


@pytest.fixture
def trainer(monkeypatch):
    """What a configuration makes of an environment."""

    def of(environment, *overrides):
        for name in [name for name in os.environ if re.match(r"SLURM_|TORCHELASTIC|.*RANK$|.*WORLD_SIZE$", name)]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = [override for override in overrides if override.startswith("trainer.")]
        cfg = chosen(*(override for override in overrides if override not in settings))
        HydraConfig.instance().set_config(cfg)
        node = plain(OmegaConf.merge(cfg, OmegaConf.from_dotlist(settings)).trainer)
        return build_trainer(node, normalises=True, logger=False, enable_checkpointing=False)

    return of


@pytest.mark.parametrize(
    ("environment", "overrides", "kind", "n"),
    [
        ({}, TWO, LightningEnvironment, 2),
        (TORCHRUN, TWO, TorchElasticEnvironment, 2),
        ({**JOB, **TORCHRUN}, TWO, TorchElasticEnvironment, 2),  # torchrun inside a job
        (SUBMITIT, TWO, TorchElasticEnvironment, 2),
        (JOB, TWO, LightningEnvironment, 2),  # salloc or a batch script without srun: nobody else is there
        (JOB, ("strategy=cpu",), LightningEnvironment, 1),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, ("strategy=auto", "trainer.accelerator=cpu"), LightningEnvironment, 1),
        ({**STEP, "SLURM_JOB_NAME": "bash"}, ("strategy=slurm", "trainer.accelerator=cpu"), Srun, 4),
        ({**STEP, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, TWO, Srun, 2),  # a step smaller than the job
    ],
)
def test_processes_are_those_that_were_started(trainer, environment, overrides, kind, n):
    found = trainer(environment, *overrides)
    assert isinstance(found._accelerator_connector.cluster_environment, kind)
    assert found.num_devices * found.num_nodes == n
    assert found.strategy.cluster_environment.world_size() == n if n > 1 else found.world_size == 1
    if kind is Srun:  # which leaves checkpoints and requeueing to us
        assert not found.strategy.cluster_environment.auto_requeue


@pytest.mark.parametrize(
    ("environment", "overrides", "message"),
    [
        (
            TORCHRUN,
            ("strategy=cpu",),
            "torchrun started 2 processes.*trainer.devices=1 × trainer.num_nodes=1;.*strategy=ddp",
        ),
        (TORCHRUN, (*TWO, "trainer.devices=3"), "torchrun started 2 .*give it trainer.devices=2 trainer.num_nodes=1"),
        ({**TORCHRUN, "WORLD_SIZE": "4"}, TWO, "torchrun started 4 .*give it trainer.devices=2 trainer.num_nodes=2"),
        (STEP, ("strategy=cpu",), "srun started 4 .*give it trainer.devices=4"),
        (SUBMITIT, ("strategy=cpu",), "hydra.launcher.tasks_per_node started 2 processes.*give it trainer.devices=2"),
        ({k: v for k, v in STEP.items() if k != "SLURM_NTASKS_PER_NODE"}, TWO, "SLURM: give .*--ntasks-per-node"),
        (JOB, (*TWO, "trainer.num_nodes=2"), "trainer.num_nodes=2: nobody started this command on 2 machines"),
        ({}, ("strategy=cpu", "trainer.precision=12"), "trainer: .*12"),
        ({}, ("strategy=cpu", "trainer.strategy=dpp"), "trainer: .*invalid strategy name.*dpp"),
    ],
)
def test_what_does_not_go_together_is_refused(trainer, environment, overrides, message):
    with pytest.raises(InputError, match=message):
        trainer(environment, *overrides)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("strategy", ["gpu", "ddp", "fsdp", "slurm"])
def test_no_gpu_is_one_line(trainer, strategy):
    with pytest.raises(InputError, match="trainer.accelerator=gpu: PyTorch finds no GPU.*strategy=cpu"):
        trainer({}, f"strategy={strategy}")


def test_batch_norm_is_not_synchronised_on_the_cpu():
    encoder = nn.SyncBatchNorm.convert_sync_batchnorm(ResNet3D(width=8))
    with pytest.raises(InputError, match="encoder.norm=group, or set trainer.sync_batchnorm=false"):
        encoder(torch.zeros(2, 1, 16, 16, 16))


@pytest.mark.parametrize(("synchronised", "warnings"), [("true", 0), ("false", 1)])
def test_several_devices_that_normalise_by_themselves_are_warned_of(trainer, synchronised, warnings, recwarn):
    trainer({}, *TWO, f"trainer.sync_batchnorm={synchronised}")
    trainer({}, "strategy=cpu", "trainer.sync_batchnorm=false")  # one device needs none
    assert sum("normalises over its own share" in str(warning.message) for warning in recwarn) == warnings


POINT = ("hydra.mode=MULTIRUN", *TWO)


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [({}, "basic"), (TORCHRUN, "basic"), ({}, "joblib"), ({}, "submitit_local"), (JOB, "submitit_slurm")],
)
def test_a_sweep_over_devices_is_refused_with_the_remedy(trainer, environment, launcher):
    with pytest.raises(
        InputError, match="submitit_local hydra.launcher.tasks_per_node=2 .*hydra.sweeper.max_batch_size=1"
    ):
        trainer(environment, *POINT, f"hydra/launcher={launcher}")


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [(SUBMITIT, "submitit_local"), ({**STEP, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, "submitit_slurm")],
)
def test_a_sweep_whose_points_have_their_own_processes_is_not(trainer, environment, launcher):
    assert trainer(environment, *POINT, f"hydra/launcher={launcher}").world_size == 2


@pytest.mark.parametrize(
    ("rank", "told"), [("0", "error: weights=/nowhere"), ("1", "error in process 1: weights=/now")]
)
def test_an_error_says_which_process_met_it_and_the_first_one_comes_first(rank, told, command, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit):
        command("embed", "weights=/nowhere", "dataset=csv", "dataset.cohort=none", "strategy=cpu")
    captured = capsys.readouterr()
    assert captured.err.startswith(told)
    assert waited == [HEAD_START_S] * int(rank)
