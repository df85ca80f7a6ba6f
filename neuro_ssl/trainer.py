"""Lightning's trainer as configured, on the processes that were started for it, by whoever started them.

Lightning takes any process inside a SLURM job for one of srun's tasks, and would wait for the others in vain where
nobody started any: in `salloc`, in a notebook, in a batch script without srun. Nor does it look whether torchrun or
srun started as many processes as the trainer is to use.
"""

import os
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from neuro_ssl.config import build, choices
from neuro_ssl.errors import InputError
from neuro_ssl.launching import is_sweep
from neuro_ssl.processes import tasks_of_srun, tasks_of_submitit
from neuro_ssl.tracking import MetricsCSV


class Srun(SLURMEnvironment):
    """The tasks of a step of srun, which may be fewer than the job's."""

    def __init__(self) -> None:
        # Lightning's requeueing would save in the midst of a step, to files that win over later ones of ours.
        super().__init__(auto_requeue=False)

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """`_check_processes` has looked at the step; Lightning would look at the job."""


def build_trainer(node: dict[str, Any], *, normalises: bool = False, **supplied: Any) -> Any:
    """The trainer that a plain node describes.

    Args:
        node: a `lightning.pytorch.Trainer` and its arguments.
        normalises: whether what it trains normalises over a batch.
        supplied: further arguments.

    Warns:
        UserWarning: several devices would normalise over their own shares of a batch.

    Raises:
        InputError: a device that is not there, other arguments that Lightning refuses, another number of processes than
            were started, or several processes for a point of a sweep that are not its own.
    """
    if node.get("accelerator") in ("gpu", "cuda") and not (
        CUDAAccelerator.is_available() or MPSAccelerator.is_available()
    ):
        raise InputError(
            f"trainer.accelerator={node['accelerator']}: PyTorch finds no GPU on this machine (does nvidia-smi list "
            "one, and is torch.cuda.is_available()?); strategy=cpu does without"
        )
    environment = _environment()
    if environment and not node.get("plugins"):
        supplied["plugins"] = environment
    try:
        trainer = build(node, **supplied)
    except (MisconfigurationException, ValueError) as error:  # of what the user chose: the rest is constant
        raise InputError(
            f"trainer: {' '.join(str(error).split())}; change trainer.… or choose another strategy"
        ) from error
    _check_processes(environment, trainer.num_devices, trainer.num_nodes)
    _refuse_shared_sweep(environment, trainer.num_devices * trainer.num_nodes)
    if normalises and trainer.world_size > 1 and not node.get("sync_batchnorm"):
        warnings.warn(
            f"trainer.sync_batchnorm=false on {trainer.world_size} devices: each normalises over its own share of a "
            "batch, so that the result depends on their number, which the run's name does not tell",
            stacklevel=2,
        )
    return trainer


def build_loggers(node: dict[str, Any], directory: Path) -> list[Any]:
    """`metrics.csv`, and the loggers that a plain node describes.

    Args:
        node: loggers by name, beside values that go to those of them that take them.
        directory: the run directory.
    """
    of_run = {"directory": str(directory), "name": directory.name}
    loggers: list[Any] = [MetricsCSV(**of_run)]
    for member in node.values():
        if isinstance(member, dict):
            takes = signature(get_object(member["_target_"])).parameters
            given = {key: value for key, value in {**of_run, **node}.items() if key in takes}
            loggers.append(build(member, **given))
    return loggers


def _environment() -> ClusterEnvironment | None:
    """What tells Lightning which process this is; None: what it finds out by itself is right."""
    if TorchElasticEnvironment.detect() or tasks_of_submitit() > 1:
        return TorchElasticEnvironment()
    if tasks_of_srun() > 1:
        try:
            return Srun()
        except RuntimeError as error:
            raise InputError(f"SLURM: give sbatch or srun --ntasks-per-node in place of --ntasks ({error})") from error
    return LightningEnvironment() if "SLURM_JOB_ID" in os.environ else None


def _check_processes(environment: ClusterEnvironment | None, devices: int, nodes: int) -> None:
    """Refuse another number of processes than was started."""
    asked = f"trainer.devices={devices} × trainer.num_nodes={nodes}"
    if isinstance(environment, LightningEnvironment | None):
        if nodes > 1 and not {"NODE_RANK", "GROUP_RANK", "LOCAL_RANK"} & set(os.environ):
            raise InputError(
                f"trainer.num_nodes={nodes}: nobody started this command on {nodes} machines; begin it with srun, in a "
                "SLURM job, or with torchrun on each of them"
            )
        return
    started, by = environment.world_size(), "srun" if isinstance(environment, Srun) else "torchrun"
    if tasks_of_submitit() > 1:
        by = "hydra.launcher.tasks_per_node"
    if started != devices * nodes:
        a_node = int(os.environ.get("LOCAL_WORLD_SIZE" if by == "torchrun" else "SLURM_NTASKS_PER_NODE", started))
        raise InputError(
            f"{by} started {started} processes, one a device, but the trainer has {asked}; give it "
            f"trainer.devices={a_node} trainer.num_nodes={started // a_node} and a strategy for several "
            f"(strategy=ddp), or start {devices * nodes}"
        )


def _refuse_shared_sweep(environment: ClusterEnvironment | None, n_processes: int) -> None:
    """Refuse points of a sweep that are worked on by several processes, unless each point has its own.

    Lightning would start its further processes with this command line, and so the whole sweep once more in each; under
    torchrun all processes would have to go through all points alike, also through one that fails.
    """
    if not is_sweep() or n_processes == 1:
        return
    if not choices()["hydra/launcher"].startswith("submitit") or isinstance(environment, LightningEnvironment | None):
        raise InputError(
            f"a sweep (-m) can't use {n_processes} devices a point in this way: set trainer.devices=1, or let each "
            "point have processes of its own: hydra/launcher=submitit_local "
            f"hydra.launcher.tasks_per_node={n_processes} hydra.launcher.gpus_per_node={n_processes} "
            "hydra.sweeper.max_batch_size=1 (one point after another, for all get the same GPUs), or "
            "hydra/launcher=submitit_slurm with strategy=slurm and the same two numbers"
        )
