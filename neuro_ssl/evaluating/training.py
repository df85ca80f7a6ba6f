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

from neuro_ssl.errors import InputError

_WORDS = {"null", "true", "false", "nan", "inf"}  # which are no texts unless quoted
_OF_PROCESSES = re.compile(  # else a training would wait for those of this command
    r"(LOCAL_|GROUP_|NODE_|ROLE_)?(RANK|WORLD_SIZE)$|MASTER_(ADDR|PORT)$|TORCHELASTIC_|PL_GLOBAL|"
    r"SLURM_(STEP_NUM_(TASKS|NODES)|NTASKS|PROCID|LOCALID|NODEID)$"
)

_OF_EVALUATION = re.compile(r" label_fraction=\S+ label_seed=\d+ seed=\d+ (.* )?open_test=(true|false)$")


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


def is_of_evaluation(command: str) -> bool:
    """Whether a run's command is one that an evaluation gives: see `Predictor._trained`."""
    return _OF_EVALUATION.search(command) is not None


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
