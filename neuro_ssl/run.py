"""The run directory: its name, its record (`run.yaml`), and what else lies in it.

    config.yaml           the resolved configuration
    run.yaml              what ran: command, data, weights, versions, commit, hardware, times, status
    metrics.csv           history: epoch, step, metric, value
    checkpoints/          best.ckpt, last.ckpt
    views.npz             pretraining: three scans and two views of each
    predictions.parquet   downstream: one row a scan
    results.json          downstream: scores with 95 % intervals
    wandb/                the tracker's own files

A run is named after what affects its result (see `run_name`), so that the same command finds it again.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from neuro_ssl.errors import InputError


def run_name(prefix: str, identity: dict[str, Any]) -> str:
    """`prefix-1a2b3c4d`, the digits being a hash of everything that affects the run's result."""
    canonical = json.dumps(identity, sort_keys=True, default=str)
    return f"{prefix}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


class RunDirectory:
    """One run's folder and its record.

    Args:
        path: the folder; made by `begin`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> dict[str, Any]:
        """What `run.yaml` holds; empty before `begin`.

        Raises:
            InputError: the file is damaged.
        """
        file = self.path / "run.yaml"
        if not file.exists():
            return {}
        try:
            record = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise InputError(f"{file} is not valid YAML ({error}); delete {self.path} to run again") from error
        if not isinstance(record, dict):
            raise InputError(f"{file} holds no record; delete {self.path} to run again")
        return record

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.record.get("status") == "finished"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def results(self) -> dict[str, Any] | None:
        """A downstream run's scores; None before they are there."""
        file = self.path / "results.json"
        return json.loads(file.read_text()) if file.exists() else None

    def write_results(self, predictions: pd.DataFrame, results: dict[str, Any]) -> None:
        """Keep a downstream run's prediction table and its scores."""
        predictions.to_parquet(self.path / "predictions.parquet")
        write_atomically(self.path / "results.json", json.dumps(results, indent=2))

    def begin(self, record: dict[str, Any], config: dict[str, Any]) -> None:
        """Make the folder and note what is about to run.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}): choose another runs_dir") from error
        self._write({"name": self.path.name, "status": "running", **record, "started": _now()})

    def finish(self) -> None:
        """Note that the run came to its end."""
        record = self.record
        seconds = time.time() - datetime.fromisoformat(record["started"]).timestamp()
        self._write({**record, "status": "finished", "duration_s": round(seconds, 1)})

    def _write(self, record: dict[str, Any]) -> None:
        write_atomically(self.path / "run.yaml", yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either the old one or the new one, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def environment() -> dict[str, Any]:
    """Versions, code state and hardware, as far as they matter for repeating a run."""
    import torch

    packages = ("neuro_ssl", "torch", "lightning", "monai", "numpy", "nibabel", "hydra-core")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        **_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpus": devices},
    }


def command_line() -> str:
    """The command as a user would type it again."""
    import shlex

    module = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"neuro_ssl.{module}", *sys.argv[1:]])


def _commit() -> dict[str, Any]:
    """The code's commit and whether it was changed; both None for an installed wheel."""
    here = Path(__file__).parent
    if shutil.which("git") is None or not (here.parent / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*args: str) -> str:
        result = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, check=False)
        return result.stdout.strip()

    return {"commit": git("rev-parse", "HEAD") or None, "dirty": bool(git("status", "--porcelain"))}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
