import subprocess
import sys

import numpy as np
import SimpleITK as sitk
import torch
from threadpoolctl import threadpool_info

from neuro_ssl.preprocessing.threads import one_thread


def threads():
    np.ones((4, 4)) @ np.ones((4, 4))
    pools = {pool["num_threads"] for pool in threadpool_info()}
    return pools, torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()


def test_loaded_libraries_get_one_thread_and_then_what_they_had():
    torch_threads, itk_threads = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        torch.set_num_threads(3)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
        before = threads()
        with one_thread():
            assert threads() == ({1}, 1, 1)
        assert threads() == before and before[1:] == (3, 3)
    finally:
        torch.set_num_threads(torch_threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(itk_threads)


def test_libraries_that_are_loaded_later_get_one_thread_too():
    code = """
import os, sys
from neuro_ssl.preprocessing.threads import one_thread
assert not {"torch", "SimpleITK", "numpy"} & set(sys.modules)
with one_thread():
    import numpy, SimpleITK, torch
    from threadpoolctl import threadpool_info
    pools = {pool["num_threads"] for pool in threadpool_info()}
    print(pools, torch.get_num_threads(), SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads())
assert "OMP_NUM_THREADS" not in os.environ
"""
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout == "{1} 1 1\n"
