"""One GPU a process: points of a sweep that run side by side each claim one, and CUDA sees no other.

A claim is a lock on a file in a folder of the user's below the system's temporary one, so that two sweeps on one
machine don't share a GPU either. The operating system lets go of it when the process ends, however it ends.
"""

import os
import tempfile
import time
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from neuro_ssl.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
SIDE_BY_SIDE = "NEURO_SSL_SIDE_BY_SIDE"  # environment variable: how many processes work on points of this sweep at once

_claimed: FileLock | None = None  # for the life of the process


def points_side_by_side() -> int:
    """How many points of a sweep run on this machine at once, by this sweep's launcher; 1 outside sweeps."""
    return int(os.environ.get(SIDE_BY_SIDE, 1))


def visible_gpus() -> list[str]:
    """The entries of CUDA_VISIBLE_DEVICES (indices, or UUIDs of GPUs and MIG instances), else the indices of all GPUs.

    CUDA, which reads that variable once, is not initialised by this.
    """
    if (listed := os.environ.get(VISIBLE)) is not None:
        names = (name.strip() for name in listed.split(","))
        return list(takewhile(lambda name: name not in ("", "-1"), names))  # where CUDA, too, stops reading
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]  # asks the driver's library, not CUDA


def claim_gpu(n_processes: int = 1) -> None:
    """Take one of the visible GPUs for this process, once one is free; nothing to do where there is none.

    Args:
        n_processes: that run side by side, each with a GPU for long.

    Raises:
        InputError: they are more than there are GPUs, or the lock cannot be written.
    """
    global _claimed
    if _claimed or not (gpus := visible_gpus()):
        return
    if n_processes > len(gpus):
        raise InputError(
            f"hydra.launcher.n_jobs={n_processes}: {n_processes} points at a time, but there "
            f"{'is 1 GPU' if len(gpus) == 1 else f'are {len(gpus)} GPUs'} ({VISIBLE} lists those to be taken); set "
            f"hydra.launcher.n_jobs={len(gpus)}, or strategy=cpu"
        )
    waits = False
    while (lock := _free(gpus)) is None:
        if not waits:
            print(f"waiting for a GPU: other processes hold {', '.join(gpus)}", flush=True)
            waits = True
        time.sleep(1)
    _claimed = lock


def _free(gpus: list[str]) -> FileLock | None:
    """The lock of the first GPU that nobody holds, which is now the visible one."""
    # Within a job of SLURM indices count the job's own GPUs.
    whose = "-".join(filter(None, [str(os.getuid()), os.environ.get("SLURM_JOB_ID")]))
    folder = Path(tempfile.gettempdir()) / f"neuro_ssl-gpus-{whose}"
    for gpu in gpus:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = FileLock(folder / f"{gpu.replace('/', '-')}.lock")
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as error:
            raise InputError(f"cannot write to {folder} ({error.strerror}); set TMPDIR to another place") from error
        os.environ[VISIBLE] = gpu
        return lock
    return None
