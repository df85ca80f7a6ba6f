"""The training of a repetition, in a process of its own, by a configuration that lies in its folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.rerunning.recorded import Recorded
from neuro_ssl.run import RunDirectory
from neuro_ssl.run_names import that_matter
from neuro_ssl.signals import STOPPING

CONFIG = "rerun"  # name of the configuration


def check_settings(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder where a repetition with other settings has begun or ended.

    Args:
        folder: of the repetition.
        config: that it is to be trained with now.

    Raises:
        InputError: the settings are others.
    """
    file = folder / f"{CONFIG}.yaml"
    if not file.exists() or not RunDirectory(folder).record:  # nothing has been trained
        return
    earlier = yaml.safe_load(file.read_text(encoding="utf-8"))
    if that_matter({key: earlier.get(key, value) for key, value in config.items()}) != that_matter(config):
        raise InputError(f"{folder} is a rerun with other settings; delete it, or choose another --output")


def write(config: dict[str, Any], original: Recorded, folder: Path) -> None:
    """Put the configuration into the repetition's folder, as one that Hydra composes.

    Raises:
        InputError: it cannot be written.
    """
    encoder = original.record["encoder"]["name"]
    header = {
        "defaults": ["train_schema", "common", "_self_"],
        "hydra": {"runtime": {"choices": {"task": original.record["task"], "encoder": encoder}}},
    }
    with appearing(folder / f"{CONFIG}.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(header | config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def train(folder: Path, original: Recorded) -> None:
    """Train by the configuration in the folder; signals are handed on.

    Raises:
        InputError: it failed; its own message is on stderr.
        SystemExit: it was stopped; the same command goes on.
    """
    command = [sys.executable, "-m", "neuro_ssl.train", "--config-dir", str(folder), "--config-name", CONFIG]
    environment = os.environ | ({"OMP_NUM_THREADS": str(n)} if (n := original.threads.get("threads")) else {})
    status = watched(command, environment)
    if status < 0 or status > 128:
        raise SystemExit(status if status > 0 else 128 - status)
    if status:
        versions = original.record["versions"]
        raise InputError(
            "the training could not be repeated, see above; the run was made by neuro_ssl "
            f"{versions.get('neuro_ssl')}, commit {original.record['commit'] or 'unknown'}"
        )


def watched(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, and hand on to it the signals that ask for a stop.

    Returns:
        Its exit status; -n where signal n killed it.
    """
    with subprocess.Popen(command, env=environment) as child:
        before = {s: signal.signal(s, lambda signum, _: child.send_signal(signum)) for s in STOPPING}
        try:
            return child.wait()
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
