"""One thread a process: scans are the parallelism, and sums don't depend on how many threads shared them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

# What libraries read when they are loaded, which may be only while the first scan is preprocessed.
_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS, OpenMP, torch and SimpleITK to one thread, whether they are loaded already or will be."""
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    torch: Any = sys.modules.get("torch")  # not imported here: masks need no torch
    sitk: Any = sys.modules.get("SimpleITK")
    torch_threads = torch.get_num_threads() if torch else None
    sitk_threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() if sitk else None
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    if torch:
        torch.set_num_threads(1)
    if sitk:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        for name, value in variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if torch:
            torch.set_num_threads(torch_threads)
        if sitk:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(sitk_threads)
