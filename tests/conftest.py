import importlib
import os
import sys
from pathlib import Path

import pytest

os.environ["WANDB_MODE"] = "offline"  # no test talks to a server, whatever keys this machine holds
os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture
def command(monkeypatch):
    """Run `python -m neuro_ssl.<name> …` in this process, through its real entry point."""

    def run(name: str, *arguments: object) -> None:
        module = importlib.import_module(f"neuro_ssl.{name}")
        monkeypatch.setattr(sys, "argv", [str(Path(module.__file__)), *map(str, arguments)])
        module.main()

    return run
