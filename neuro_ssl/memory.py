"""Out of memory: whether an error means that, what the device has, and one message in the error's place."""

import os
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory, or with the CPU the machine's, was too little."""
    import torch
    from lightning.pytorch.utilities.memory import is_oom_error

    # Lightning knows the allocators' messages; these are of cuBLAS, cuDNN and (without more words) oneDNN.
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or is_oom_error(error)
        or (
            isinstance(error, RuntimeError)
            and ("_STATUS_ALLOC_FAILED" in words or words == "could not create a primitive")
        )
    )


@contextmanager
def out_of_memory_told(message: Callable[[], str]) -> Iterator[None]:
    """Raise an `InputError` instead of an error for want of memory.

    Args:
        message: what to say; called once all that the failed computation held is free again.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _let_go(error)
        raise InputError(message()) from error


def _let_go(error: BaseException) -> None:
    """Free what the error's stack frames, and those of the errors before it, hold on the device."""
    from lightning.pytorch.utilities.memory import garbage_collection_cuda

    before: BaseException | None = error
    while before is not None:
        traceback.clear_frames(before.__traceback__)
        before = before.__cause__ or before.__context__
    garbage_collection_cuda()


def total_bytes(device: "torch.device") -> int:
    """A device's memory; with the CPU the machine's, or what the process is allowed of it (`ulimit -v`)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total if limit == resource.RLIM_INFINITY else min(limit, total)


def device_with_memory(device: "torch.device") -> str:
    """What to call a device in a message, with its memory and, where other programs use it, how much is free."""
    import torch

    name, total = ("the CPU" if device.type == "cpu" else str(device)), total_bytes(device)
    of_others = ""
    if device.type == "cuda":
        name, free = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0]
        of_others = f", {free / 1e9:.0f} GB of them free" if free < 0.9 * total else ""
    return f"{name} ({total / 1e9:.0f} GB{of_others})"
