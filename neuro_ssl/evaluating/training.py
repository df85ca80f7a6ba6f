"""Encoders that are trained for a task: by the command `train` in a process of its own, as a user would type it.

A training that is there already, finished or interrupted, is used or continued, since a run is named after what affects
its result; so that many of them can be trained beforehand, as a sweep on a cluster.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neuro_ssl.errors import InputError

Array = npt.NDArray[np.float64]
_WORDS = {"null", "true", "false", "nan", "inf"}  # which are no texts unless quoted
_OF_PROCESSES = re.compile(
    r"(LOCAL_|GROUP_|NODE_|ROLE_)?(RANK|WORLD_SIZE)$|MASTER_(ADDR|PORT)$|TORCHELASTIC_|PL_GLOBAL|"
    r"SLURM_(NTASKS|PROCID|LOCALID|NODEID)$"  # else a training would wait for the tasks of this command's step
)


def option(key: str, value: object) -> str:
    """`key=value` as Hydra reads it: texts that it would take for something else are quoted, as 1e3, null, Guy's."""
    return f"{key}={_literal(value)}"


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_literal(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_literal, value))}]"
    if value is None or isinstance(value, bool | int | float):
        return "null" if value is None else str(value).lower()
    text = str(value)
    if re.fullmatch(r"[A-Za-z_/][\w./+-]*", text, re.ASCII) and text.lower() not in _WORDS:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def run_command(name: str, options: Sequence[str]) -> str:
    """Run `python -m neuro_ssl.<name> …`, show the command and its progress, and return what it printed.

    Raises:
        InputError: it failed; its own message is on stderr.
    """
    print(f"$ {shlex.join(['python', '-m', f'neuro_ssl.{name}', *options])}", flush=True)
    environment = {key: value for key, value in os.environ.items() if not _OF_PROCESSES.match(key)}
    command = [sys.executable, "-m", f"neuro_ssl.{name}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise InputError(f"neuro_ssl.{name} failed, with the command and the message above")
    return done.stdout


def trained_run(options: Sequence[str]) -> Path:
    """Train, or find the finished run, and return its directory.

    Raises:
        InputError: as `run_command`.
    """
    output = run_command("train", options)
    found = re.findall(r"^(?:already finished|finished): (.+)$", output, flags=re.MULTILINE)
    if not found:
        raise InputError(f"neuro_ssl.train ended without naming its run; it printed:\n{output}")
    return Path(found[-1])


def head_of(run: Path, place: int) -> tuple[Array, float]:
    """The linear layer that a finished run put on its encoder's features, in the target's own unit or as a logit.

    Args:
        run: its directory.
        place: of the target among those of the run.

    Returns:
        Weights (features,) and intercept: the prediction is their sum with the features.

    Raises:
        InputError: a checkpoint that holds no such layer.
    """
    file = run / "checkpoints" / "best.ckpt"
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    try:
        weight, bias = (state[f"head.{name}"].double().numpy() for name in ("weight", "bias"))
        mean, sd, target_mean, target_sd = (
            np.atleast_1d(state[name].double().numpy())
            for name in ("feature_mean", "feature_sd", "target_mean", "target_sd")
        )
    except KeyError as error:
        raise InputError(f"{file} holds no head of a task ({error}); delete the run and train it again") from error
    weight = weight[place] / sd * target_sd[place]
    return weight, float(bias[place] * target_sd[place] + target_mean[place] - weight @ mean)
