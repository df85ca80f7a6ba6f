import pickle

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist

from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.ram_cache import RamCache
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.errors import InputError
from tests.data_layer.test_exclusions import make_store
from tests.distributed.processes import on_processes

NAMES = "abcdefghijkl"


def volumes(loader):
    return {int(scan): volume for batch in loader for scan, volume in zip(batch["scan"], batch["volume"], strict=True)}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_and_come_from_memory_once_read(tmp_path, num_workers):
    store = make_store(tmp_path, NAMES)
    bare = SSLDataModule(store, batch_size=3)
    cached = SSLDataModule(store, batch_size=3, num_workers=num_workers)
    cached.cache_in_ram(0.01)
    loader = cached.train_dataloader()
    expected, first = volumes(bare.train_dataloader()), volumes(loader)
    for name in store.manifest["volume"]:
        (store.path / name).unlink()
    second = volumes(loader)
    assert expected.keys() == first.keys() == second.keys() and len(expected) == 11
    for scan, volume in expected.items():
        assert torch.equal(first[scan], volume) and torch.equal(second[scan], volume)


def read_all(cache):
    volumes = cache.store.manifest["volume"]
    return [float(cache.read(row, volume).max()) for row, volume in enumerate(volumes)]


def test_only_what_fits(tmp_path):
    store = make_store(tmp_path, "abc")
    one = (store.path / store.manifest["volume"][1]).stat().st_size
    cache = RamCache(store, np.array([1, 0, 2]), gigabytes=1.5 * one / 1e9)
    assert read_all(cache) == [1, 2, 3]
    (store.path / store.manifest["volume"][1]).unlink()
    assert read_all(cache) == [1, 2, 3]  # b got the room
    assert read_all(pickle.loads(pickle.dumps(cache))) == [1, 2, 3]
    (store.path / store.manifest["volume"][0]).unlink()
    with pytest.raises(InputError, match="sub-a.b2nd"):
        read_all(cache)


def test_a_half_written_volume_is_read_from_its_file(tmp_path):
    cache = RamCache(make_store(tmp_path, "ab"), np.array([0, 1]), gigabytes=0.01)
    assert read_all(cache) == [1, 2]
    cache.memory[int(cache.bounds[1]) + 50] ^= 0xFF
    assert read_all(cache) == [1, 2]


def test_memory_is_given_back(tmp_path):
    store, process = make_store(tmp_path, "ab"), psutil.Process()
    n_files = process.num_fds()
    for _ in range(20):
        RamCache(store, np.array([0, 1]), gigabytes=0.01).share()
    assert process.num_fds() <= n_files + 1


@pytest.mark.parametrize(("gigabytes", "message"), [(-1, "at least 0"), (1e6, "more than the .* GB that this machine")])
def test_refuses(tmp_path, gigabytes, message):
    with pytest.raises(InputError, match=message):
        SSLDataModule(make_store(tmp_path), batch_size=1).cache_in_ram(gigabytes)


def on_a_rank(path):
    store = VolumeStore.open(path)
    cache = RamCache(store, np.arange(len(store.manifest)), gigabytes=0.01)
    cache.share()
    if dist.get_rank() == 1:
        read_all(cache)
        for volume in store.manifest["volume"]:
            (path / volume).unlink()
    dist.barrier()
    values = read_all(cache)
    dist.barrier()
    return values


@pytest.mark.slow
def test_two_ranks_share_one_copy(tmp_path):
    assert on_processes(2, on_a_rank, make_store(tmp_path, "abc").path) == [[1, 2, 3]] * 2


@pytest.mark.parametrize("ram_cache_gb", [0, 0.01])
def test_memory_of_loading_processes_does_not_grow_over_ten_epochs(tmp_path, ram_cache_gb):
    datamodule = SSLDataModule(make_store(tmp_path, NAMES, grid="2mm"), batch_size=2, num_workers=2)
    datamodule.cache_in_ram(ram_cache_gb)
    loader = datamodule.train_dataloader()
    megabytes = []
    for epoch in range(12):
        loader.sampler.set_epoch(epoch)
        assert sum(len(batch["scan"]) for batch in loader) == 11
        workers = [process for process in psutil.Process().children() if process.pid in pids(loader)]
        assert len(workers) == 2
        megabytes.append(sum(worker.memory_full_info().uss for worker in workers) / 1e6)
    # A batch has 2.8 MB: if each worker kept one of an epoch, it would be 55 MB over these ten epochs. Touching what
    # the workers share with their parent since the fork costs up to 5 MB, in a parent full of other tests.
    assert megabytes[11] - megabytes[1] < 15, megabytes


def pids(loader):
    return {worker.pid for worker in loader._iterator._workers}
