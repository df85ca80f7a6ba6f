"""`hydra/launcher=joblib`: points of a sweep side by side, each in a process, by hydra-joblib-launcher.

Differs: where a process is killed, as the system does for want of memory, joblib ends all others and the sweep. Here
the points that were at work are started once more after the others, one at a time; one that is killed then, too, has
failed, and the sweep goes on. No more processes are started than there are points. Where the first process is gone, the
others save their state and end; joblib's would go on for as long as their points last.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from neuro_ssl.errors import InputError
from neuro_ssl.gpus import SIDE_BY_SIDE
from neuro_ssl.points import SWEEP, Point, read_points

KILLED = "its process was killed twice, the second time while no other point ran: is there too little memory?"


class JoblibLauncher(Launcher):
    """Runs points by `joblib.Parallel`.

    Args:
        n_jobs: processes at a time; negative as joblib has it: -1 one a core.
        parallel: further arguments of `joblib.Parallel`.
    """

    def __init__(self, n_jobs: int, **parallel: Any) -> None:
        self.n_jobs, self.parallel = n_jobs, parallel

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra tells a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the points, and return what became of each, in their order."""
        try:
            from hydra_plugins.hydra_joblib_launcher._core import execute_job
        except ImportError as error:
            raise InputError("hydra/launcher=joblib needs pip install 'neuro_ssl[launchers]'") from error
        from joblib import Parallel, delayed, effective_n_jobs
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        from neuro_ssl.launching import sweep_environment

        setup_globals()
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        n_jobs = min(effective_n_jobs(self.n_jobs), len(job_overrides))
        os.environ[SIDE_BY_SIDE] = str(n_jobs)
        shared = self.hydra_context, self.config, self.task_function, Singleton.get_state()

        first, environment = os.getpid(), sweep_environment()

        def executed(number: int) -> tuple[int, JobReturn]:
            os.environ.update(environment)
            _watch(first)
            try:
                return number, execute_job(initial_job_idx + number, job_overrides[number], *shared)
            finally:
                if first not in (os.getpid(), os.getppid()):
                    os._exit(1)  # nobody is there to give it another point

        returned: dict[int, JobReturn] = {}

        def run(numbers: Sequence[int], n_jobs: int) -> bool:
            """Whether all went well; else a process was killed."""
            tasks = (delayed(executed)(number) for number in numbers)
            how = {**self.parallel, "backend": "loky", "batch_size": 1, "return_as": "generator_unordered"}
            try:
                returned.update(Parallel(n_jobs=n_jobs, **how)(tasks))
            except TerminatedWorkerError:
                return False
            return True

        waiting, interrupted = list(range(len(job_overrides))), list[int]()
        while waiting and not run(waiting, n_jobs):
            at_work = {point.number - initial_job_idx for point in self._points() if point.status == "running"}
            taken_along = sorted(at_work & set(waiting)) or waiting
            names = ", ".join(str(initial_job_idx + number) for number in taken_along)
            print(
                f"warning: a process of the sweep was killed, for want of memory as a rule; points {names}, which were "
                "at work, start once more at the end, one at a time",
                file=sys.stderr,
            )
            interrupted += taken_along
            waiting = [number for number in waiting if number not in {*interrupted, *returned}]
        for number in sorted(interrupted):
            if not run([number], max(n_jobs, 2)):  # of 1, joblib would make none but this process
                self._point(initial_job_idx + number, job_overrides[number]).note(status="failed", reason=KILLED)
                returned[number] = JobReturn(overrides=job_overrides[number], status=JobStatus.COMPLETED)
                returned[number].return_value = None
        return [returned[number] for number in range(len(job_overrides))]

    def _points(self) -> list[Point]:
        return read_points(self._sweep)

    def _point(self, number: int, overrides: Sequence[str]) -> Point:
        return Point(self._sweep, number, list(overrides))

    @property
    def _sweep(self) -> Path:
        return Path(os.environ.get(SWEEP, self.config.hydra.sweep.dir))


def _watch(first: int) -> None:
    """Have this process told to stop, as `neuro_ssl.signals` does, when the first one is gone."""
    name = "watches the first process"
    if os.getpid() == first or name in (thread.name for thread in threading.enumerate()):
        return

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name=name, daemon=True).start()
