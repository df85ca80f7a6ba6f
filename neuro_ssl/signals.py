"""Signals that ask a training to stop: it ends soon, with its state saved, and the same command goes on from there.

    SIGTERM             whoever wants the process gone: SLURM that preempts or cancels a job, a machine that shuts down
    SIGUSR1, SIGUSR2    SLURM before a job's time is over (`sbatch --signal=USR1@120`), and submitit
    SIGINT              Ctrl-C

A handler only notes the signal; what comes of it depends on the moment:

    before training     nothing can be lost: it ends at once
    in training         at the end of the step, on all processes the same one, whichever of them got the signal (see
                        `distributed.Agreement`); last.ckpt is written
    in validation       at its end, and last.ckpt is written; if that takes long, between two of its batches, and what
                        was trained since the last checkpoint is trained again
    when all is trained a downstream run stops before it opens its test split. Once that is open it goes on to its end,
                        so that it is opened once; that is seconds to minutes
    in a sweep          with the point that runs, or after it where it came to its end

Then one line tells how it stands, and the exit status is 128 + the signal's number. Under SLURM, SIGUSR1 and SIGUSR2
also requeue the job (`scontrol requeue`; SIGTERM does not, since it may be `scancel`, and SLURM itself requeues what it
preempts). Whoever listened to the signal before, as submitit does, which requeues too, gets it handed on.

A second SIGTERM or Ctrl-C, seconds after the first, ends the process as it would have without all this. Loading
processes get SIGTERM as always, and ignore the others. So does a command in the background of a script (`&`) with
SIGINT, as its shell wants it.
"""

import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from neuro_ssl.errors import Interrupted
from neuro_ssl.processes import launched_rank

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
AGAIN_S = 5.0  # a signal this long after the first is meant as a second one: launchers pass on what came here too
GOES_ON = "the same command goes on from there"


class _Listener:
    """Notes the first signal, and until training starts ends the command by it."""

    def __init__(self) -> None:
        self.process, self.training = os.getpid(), False
        self.received = 0
        self.since = 0.0
        ignored = {signal.SIGINT} if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else set()
        self.before = {signum: signal.signal(signum, self._note) for signum in STOPPING if signum not in ignored}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a fork, such as a loading process
            return
        by_hand = signum in (signal.SIGTERM, signal.SIGINT)
        if self.received and by_hand and time.monotonic() - self.since > AGAIN_S:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(self.process, signum)
        if not self.received:
            self.received, self.since = signum, time.monotonic()
            if signum == signal.SIGINT and self.training and launched_rank() == 0:  # (no print, which may be under way)
                os.write(2, b"\nstopping soon; Ctrl-C again, some seconds from now, ends it at once\n")
        if not self.training:
            self.training = True  # once is enough
            raise Interrupted(stopped(signum, "before training began; the same command begins again"), signum)

    def restore(self) -> None:
        """Leave the signals to whoever listened before."""
        for signum, handler in self.before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)


_listener: _Listener | None = None


def stops_on_signals(more_to_come: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command's main function stop as this module says.

    Args:
        more_to_come: tells whether this is a point of a sweep, which then ends after it.
    """

    def decorate(main: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(main)
        def listening(*args: Any) -> Any:
            return _listened_to(main, more_to_come, *args)

        return listening

    return decorate


def _listened_to(main: Callable[..., Any], more_to_come: Callable[[], object], *args: Any) -> Any:
    """What it returns. (Launchers of sweeps pickle `listening` by value, with a copy of this module's globals.)"""
    global _listener
    if threading.current_thread() is not threading.main_thread():  # which alone may listen
        return main(*args)
    _listener = listener = _Listener()
    try:
        result = main(*args)
        if listener.received and more_to_come():
            raise Interrupted(stopped(listener.received, "after this point of the sweep"), listener.received)
        return result
    except Interrupted as stop:
        if stop.message:
            print(stop.message, flush=True)
        _hand_on(stop.signum, listener)
        raise
    finally:
        _listener = None
        listener.restore()


def stopped(signum: int, how: str) -> str:
    """The line that tells of a stop.

    Args:
        signum: the signal.
        how: when it stopped, and what becomes of it.
    """
    return f"stopped by {signal.Signals(signum).name} {how}"


def training_begins() -> None:
    """From now on a signal is only noted: whoever trains asks for it where it can stop."""
    if _listener:
        _listener.training = True


def received(seconds_ago: float = 0.0) -> int:
    """The signal that this process was asked to stop by; 0 for none.

    Args:
        seconds_ago: how long ago at least.
    """
    return _listener.received if _listener and time.monotonic() - _listener.since >= seconds_ago else 0


def _hand_on(signum: signal.Signals, listener: _Listener) -> None:
    """Tell whoever listened before; else SLURM, that the job is to be started again."""
    if signum == signal.SIGINT:  # to which Python would raise KeyboardInterrupt
        return
    before = listener.before[signum]
    if callable(before):
        before(signum, None)
        return
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or signum == signal.SIGTERM or launched_rank() > 0:
        return
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    # SLURM ends what it requeues by SIGTERM, and half a minute later by SIGKILL; until then there is time to tidy up.
    listener.before[signal.SIGTERM] = signal.SIG_IGN
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        print(f"warning: scontrol requeue {job} failed ({reason}): submit the job again to go on", flush=True)
    else:
        print(f"requeued as SLURM job {job}", flush=True)
