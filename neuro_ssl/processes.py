"""The processes that were started together for one run, as the environment tells of them before they have met."""

import os

HEAD_START_S = 5.0  # that the first process has to end, before others end: launchers kill the rest when one fails


def tasks_of_srun() -> int:
    """How many processes SLURM's srun started with this one; 1 without it.

    (The job may have more tasks than this step, and inside a job that nobody started a step in, as in `salloc` or a
    batch script, there is one process, however many tasks it may have.)
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))


def tasks_of_submitit() -> int:
    """How many processes submitit started on this machine for one point of a sweep; 1 without it."""
    return int(os.environ.get("SUBMITIT_LOCAL_NTASKS", 1))


def launched_rank() -> int:
    """Index of this process among those that torchrun, srun, submitit or Lightning started; 0 if it is alone."""
    names = ["RANK", "LOCAL_RANK", *(["SLURM_PROCID"] if tasks_of_srun() > 1 else [])]
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def join_tasks_of_submitit() -> None:
    """Tell PyTorch of the processes that submitit started here, as torchrun does of its own."""
    if tasks_of_submitit() > 1:
        from submitit.helpers import TorchDistributedEnvironment

        # (A port that all of them draw from their job's number.)
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        os.environ["MASTER_ADDR"] = "127.0.0.1"  # a machine's name need not lead to it


def say(text: str) -> None:
    """Print it once: in the first of the processes that were started together."""
    if launched_rank() == 0:
        print(text, flush=True)
