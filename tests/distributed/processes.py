"""Runs a function in several real processes that share a gloo group, and ends all of them.

The processes are forked by a server that has loaded the libraries once: to start a fresh interpreter for each would
take seconds a process.
"""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Modules that the functions live in, with all that they import: what holds no threads may be forked.
multiprocessing.set_forkserver_preload(
    [f"tests.distributed.test_{name}_over_ranks" for name in ("memory", "nt_xent", "representation", "trainer")]
)


def on_processes(world_size, function, *args, timeout_s=120):
    """`function(*args)` in each process; its results in rank order. The group meets in a file: no ports."""
    with tempfile.TemporaryDirectory() as folder:
        work = (world_size, folder, function, args)
        context = mp.start_processes(_work, work, world_size, join=False, start_method="forkserver")
        try:
            deadline = time.monotonic() + timeout_s
            while not context.join(timeout=1):
                assert time.monotonic() < deadline, f"{world_size} processes are not done after {timeout_s} s"
        finally:
            for process in context.processes:
                process.kill()
                process.join()
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _work(rank, world_size, folder, function, args):
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that the processes are there already
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world_size)
    torch.save(function(*args), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
