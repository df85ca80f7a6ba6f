"""By which command, code and machine something was made: for the records of runs and benchmarks."""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def environment(n_processes: int = 1) -> dict[str, Any]:
    """The code and the machine: `versions`, `commit`, `dirty`, `hardware`.

    Args:
        n_processes: that work together.
    """
    packages = ("neuro_ssl", "torch", "lightning", "monai", "numpy", "nibabel", "hydra-core")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        **_commit(),
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            # On which the last digits of sums depend: who shares them out, and how wide a CPU's vectors are.
            "processes": n_processes,
            "threads": torch.get_num_threads(),
            "vectors": torch.backends.cpu.get_cpu_capability(),
        },
    }


def command_line(private: str | None = None) -> str:
    """The command as a user would type it again.

    Args:
        private: a key whose lists name scans or people: in place of them there is `[…]`, since records are passed on.
    """
    module = Path(sys.argv[0]).stem
    arguments = sys.argv[1:]
    if private:
        arguments = [re.sub(rf"^(\+{{0,2}}{private}=).*\[.*", r"\1[…]", one, flags=re.DOTALL) for one in arguments]
    return shlex.join(["python", "-m", f"neuro_ssl.{module}", *arguments])


def _commit() -> dict[str, Any]:
    """The code's commit and whether it was changed; both None for an installed wheel."""
    here = Path(__file__).parent
    if shutil.which("git") is None or not (here.parent / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*args: str) -> str:
        result = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, check=False)
        return result.stdout.strip()

    return {"commit": git("rev-parse", "HEAD") or None, "dirty": bool(git("status", "--porcelain"))}
