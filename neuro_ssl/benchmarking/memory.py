"""How much memory a piece of work takes beyond what is held when it starts."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], Any], device: torch.device) -> int:
    """The most memory that `work` holds at one time, in bytes beyond what was held before.

    Args:
        work: what to measure; it runs once.
        device: whose memory. On a GPU and the CPU alike: what PyTorch's allocator hands out there, which does not count
            memory that libraries take for themselves.

    Raises:
        ValueError: memory of such a device cannot be measured.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        raise ValueError(f"memory of {device} cannot be measured: choose cpu or cuda")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, n_bytes in changes:  # frees are negative
        held += n_bytes
        peak = max(peak, held)
    return peak
