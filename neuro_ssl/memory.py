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

    # Lightning knows the allocators' messages, but neither every torch.OutOfMemoryError nor what cuBLAS and cuDNN say.
    return isinstance(error, torch.OutOfMemoryError) or is_oom_error(error) or "_STATUS_ALLOC_FAILED" in str(error)


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


def device_with_memory(device: "torch.device") -> str:
    """What to call a device in a message, with its memory and, where other programs use it, how much is free."""
    import torch

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        of_others = f", {free / 1e9:.0f} GB of them free" if free < 0.9 * total else ""
        return f"{torch.cuda.get_device_name(device)} ({total / 1e9:.0f} GB{of_others})"
    if device.type != "cpu":
        return str(device)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return f"the CPU ({(total if limit == resource.RLIM_INFINITY else min(limit, total)) / 1e9:.0f} GB)"
