"""The processes that work on a sweep's points: what each knows of its sweep, and which GPU it takes.

Hydra's launchers start them: basic none, joblib and submitit one or more a point.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from neuro_ssl.gpus import SIDE_BY_SIDE, VISIBLE, claim_gpu, points_side_by_side, visible_gpus
from neuro_ssl.points import SWEEP, Point
from neuro_ssl.processes import tasks_of_submitit

# Our launchers and sweepers have the names of those they stand for, and Hydra fills them up from these.
warnings.filterwarnings("ignore", message=r"\s*'hydra/.*is validated against ConfigStore schema")
WANT_GPU = ("auto", "gpu", "cuda")  # values of trainer.accelerator
# Default of hydra.launcher.n_jobs, by the accelerator: a point a GPU, or a core (-1).
OmegaConf.register_new_resolver(
    "points_at_once",
    lambda accelerator: len(visible_gpus()) or -1 if accelerator in WANT_GPU else -1,
    replace=True,
)
_COMMAND = "NEURO_SSL_COMMAND"  # environment variable: the sweep's command line, as JSON
_GPUS = "NEURO_SSL_GPUS"  # environment variable: CUDA_VISIBLE_DEVICES as the user has it
_VARIABLES = (SWEEP, SIDE_BY_SIDE, _COMMAND, _GPUS)


class NotesSweep(Callback):
    """Hydra's callback by which all processes of a sweep know its folder, its command line and which GPUs to take.

    (They cannot ask Hydra: a sweep over `runs_dir` gives each point a folder of its own, and submitit's processes have
    another command line, and the first GPUs of the machine.)
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Before the first point. (Hydra sets its configuration, which names of studies need, for points alone.)"""
        HydraConfig.instance().set_config(config)
        os.environ[SWEEP] = str(Path(config.hydra.sweep.dir).absolute())
        os.environ[_COMMAND] = json.dumps(sys.argv)
        os.environ[_GPUS] = json.dumps(os.environ.get(VISIBLE))

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """In the process of a point, before it; and without a sweep."""
        if _COMMAND in os.environ:
            sys.argv = json.loads(os.environ[_COMMAND])


def forget_sweep() -> None:
    """A new command: what the environment says of a sweep is of another one."""
    for variable in _VARIABLES:
        os.environ.pop(variable, None)


def sweep_environment() -> dict[str, str]:
    """What the environment says of the sweep, for processes that an earlier one has left, as joblib uses them again."""
    return {variable: os.environ[variable] for variable in _VARIABLES if variable in os.environ}


def sweep_folder() -> Path | None:
    """The folder of the sweep that this command has started; None without one."""
    return Path(os.environ[SWEEP]) if SWEEP in os.environ else None


def is_sweep() -> bool:
    """Whether this is one point of a multirun (`-m`)."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def sweep_point() -> Point | None:
    """The point of a sweep that this is; None outside sweeps."""
    if not is_sweep():
        return None
    hydra = HydraConfig.get()
    return Point(Path(os.environ.get(SWEEP, hydra.sweep.dir)), hydra.job.num, list(hydra.overrides.task))


def take_gpu(cfg: DictConfig) -> None:
    """A GPU of its own for a point that runs beside others and may want one.

    Args:
        cfg: the point's configuration.

    Raises:
        InputError: more points run side by side than there are GPUs.
    """
    if OmegaConf.select(cfg, "trainer.accelerator") not in WANT_GPU:
        return
    if os.environ.get("SUBMITIT_EXECUTOR") == "local" and tasks_of_submitit() == 1:
        os.environ.pop(VISIBLE, None)  # submitit lists the machine's first ones, or none
        if (listed := json.loads(os.environ.get(_GPUS, "null"))) is not None:
            os.environ[VISIBLE] = listed
        claim_gpu()
    elif SIDE_BY_SIDE in os.environ:
        claim_gpu(points_side_by_side())
