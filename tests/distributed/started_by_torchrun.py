"""What torchrun starts in each process: commands of ours, one after another, since a start takes longer than a run.

    torchrun --nproc-per-node 2 -m tests.distributed.started_by_torchrun FILE

FILE holds a JSON list of [name, step, arguments]: at this optimiser step the command is killed, null: not.
"""

import json
import sys
from pathlib import Path

import pytest

from neuro_ssl.callbacks import Progress
from tests.conftest import run_command


class Killed(BaseException):
    """Stands for kill -9: nothing of ours or of Lightning's catches it to tidy up."""


def run_killed(step, name, *arguments):
    """A command that is killed within its training, after so many optimiser steps."""
    original = Progress.on_train_batch_end

    def hooked(self, trainer, *args, **kwargs):
        original(self, trainer, *args, **kwargs)
        if trainer.global_step == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_batch_end", hooked)
        with pytest.raises(Killed):
            run_command(name, *arguments)


if __name__ == "__main__":
    for name, step, arguments in json.loads(Path(sys.argv[1]).read_text()):
        if step is None:
            run_command(name, *arguments)
        else:
            run_killed(step, name, *arguments)
