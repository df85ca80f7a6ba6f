"""`trainer.deterministic=true`: what it promises, and one line where an operation cannot keep it.

On the CPU a run then repeats bit for bit, in another process, on another day, whatever the hash seed, time zone,
locale, working directory and number of loading processes; `python -m neuro_ssl.rerun` shows it. What it still depends
on is recorded in `run.yaml` under `hardware` and `versions`: the CPU's vectors, the number of threads and of processes,
which add sums up in another order, and PyTorch.

On GPUs PyTorch takes deterministic algorithms, or refuses an operation that has none (its documentation of
`torch.use_deterministic_algorithms` lists them). By that list, and untried:

    resnet*, sfcn               the gradient of MaxPool3d is deterministic in PyTorch 2.13, older ones may refuse it
    densenet121, resenc_l       the gradient of AvgPool3d has no deterministic algorithm: they are refused
    vit_*                       nothing that would be refused
    views                       are drawn without gradients, for which `grid_sample` is deterministic
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from neuro_ssl.errors import InputError

_REFUSED = re.compile(r"^(?P<operation>.+?) does not have a deterministic implementation", re.MULTILINE)


@contextmanager
def indeterminism_told() -> Iterator[None]:
    """Raise an `InputError` of one line where PyTorch refuses an operation that isn't deterministic."""
    try:
        yield
    except RuntimeError as error:
        if not (found := _REFUSED.search(str(error))):
            raise
        raise InputError(
            f"trainer.deterministic=true: {found['operation']} has no deterministic algorithm on this device; choose "
            "an encoder that does without it (see neuro_ssl.determinism), trainer.deterministic=warn, which goes on "
            "without that promise, or strategy=cpu"
        ) from error
