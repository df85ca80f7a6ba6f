"""What breaks a training from outside: told in one line, after which the same command goes on from the last checkpoint.

a process of the run dies       all others end within a minute, whoever started them. One says which it was, where
                                that can be known: of processes that Lightning started. Under torchrun and srun
                                their own report follows
a loading process dies          one line with the remedy: the system wanted its memory, or /dev/shm was full
the data vanish                 a volume that cannot be read is named, with the reason that the system gave
the disk is full                the file is named. last.ckpt and previous.ckpt stay as they were: a checkpoint is
                                written aside, synced and renamed, and the one before is kept
W&B does not answer             see `tracking.wandb_logger`
a signal asks for a stop        see `signals`
"""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neuro_ssl import signals
from neuro_ssl.errors import InputError

GOES_ON = "the same command goes on from the last checkpoint"

# What gloo, NCCL and PyTorch's store say where another process is gone, and nowhere else.
_GONE = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Connection was likely closed|recvValue failed|sendBytes failed"
    r"|ncclRemoteError|remote process exited|NCCL communicator was aborted"
)
_KILLED = re.compile(r"DataLoader worker \(pid (\d+)\) is killed by signal: (\w[\w ]*)")
_FULL_SHM = re.compile(r"Bus error|shared memory|unable to (write to|open) file </torch_|unable to mmap")


def as_raised(error: InputError) -> str:
    """Its message; a loading process sends it on within its traceback."""
    text = str(error)
    return text.rpartition("InputError: ")[2].strip() if text.startswith("Caught InputError in DataLoader") else text


@contextmanager
def faults_told(trainer: Any) -> Iterator[None]:
    """Raise an `InputError` of one line where something outside the program broke a training.

    Args:
        trainer: the Lightning trainer.
    """
    log = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    handler, level = _LostChild(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except RuntimeError as error:
        told = _of_loading(error) or _of_other(error, trainer)
        if told is None:
            raise
        raise InputError(told) from error
    except ValueError as error:  # several processes on the CPU
        if "SyncBatchNorm layers only work with GPU" not in str(error):
            raise
        from neuro_ssl.distributed import NEEDS_GPUS  # and with it torch, for which help doesn't wait

        raise InputError(NEEDS_GPUS) from error
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _of_loading(error: Exception) -> str | None:
    """How a loading process ended; of that PyTorch is told at any moment, and what is being written then fails too."""
    text = "\n".join(str(one) for one in (error, error.__cause__, error.__context__) if one)
    if "DataLoader worker" not in text and "/torch_" not in text:
        return None
    if _FULL_SHM.search(text):
        return (
            "a loading process found no room in shared memory (/dev/shm): give it more (docker run --shm-size=16g), "
            f"or load with fewer (num_workers) or without any (num_workers=0); {GOES_ON}"
        )
    if "exited unexpectedly" in text or _KILLED.search(text):
        killed = _KILLED.search(text)
        how = f" (process {killed[1]}: {killed[2]})" if killed else ""
        return (
            f"a loading process was ended{how}, most often by the system, for want of memory: ask for more, or set "
            f"num_workers lower; {GOES_ON}"
        )
    return None


def _of_other(error: Exception, trainer: Any) -> str | None:
    """Which other process is gone."""
    if trainer.world_size == 1 or not _GONE.search(str(error)):
        return None
    lost = "another process of this run is gone: what it said is above, and if that is nothing, the system ended it"
    for _ in range(20):  # which may take a moment to be known
        for i, process in enumerate(getattr(trainer.strategy.launcher, "procs", ())):
            if process.poll():
                lost = _told(i + 1, process.returncode)
                return f"{lost}; {GOES_ON}"
        time.sleep(0.1)
    return f"{lost}; {GOES_ON}"


def _told(rank: int, status: int) -> str:
    if status >= 0:
        return f"rank {rank} of this run ended with status {status}: what it said is above"
    of_memory = ", as the system does for want of memory" if status == -signal.SIGKILL else ""
    return f"rank {rank} of this run was ended by {signal.Signals(-status).name}{of_memory}"


class _LostChild(logging.Handler):
    """Says in our words what Lightning notes before it kills all processes that it started."""

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"\[rank: (\d+)\] Child process .* terminated with code (-?\d+)", record.getMessage()):
            print(f"error: {_told(int(found[1]), int(found[2]))}; {GOES_ON}", file=sys.stderr, flush=True)


def end_with_launcher(seconds: float = 5.0) -> None:
    """Have this process end when the one that started it is gone, if one did: Lightning or torchrun.

    It would else wait in vain for the others, as long as NCCL's watchdog does, ten minutes.

    Args:
        seconds: time to find out by itself.
    """
    if "LOCAL_RANK" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(), seconds), name="launcher-observer", daemon=True).start()


def _watch(launcher: int, seconds: float) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    time.sleep(seconds if not signals.received() else 6 * seconds)  # a checkpoint may be on its way
    rank = os.environ.get("RANK", os.environ["LOCAL_RANK"])
    print(f"error in process {rank}: the process that started it is gone; {GOES_ON}", file=sys.stderr, flush=True)
    os._exit(1)
