"""Compressed volumes in memory: one copy a machine, shared by all loading processes of all its devices.

Linux itself keeps what it has read of files in memory that nothing else needs, which is enough on a local disk. This
cache is for network file systems, which forget, or answer slowly all the same. Volumes stay compressed, so that a
terabyte of memory holds 400,000 of them at 1 mm, and are decoded as from the file: batches are the same without it.
"""

import mmap
import os
import platform
import weakref
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro_ssl.data.store import VolumeStore, decode_volume, volume_bytes
from neuro_ssl.distributed import gather_objects
from neuro_ssl.errors import InputError

_CHECKSUM = 4  # bytes at the front for each volume; 0 while it isn't there


class RamCache:
    """Memory for the first scans that fit, filled as they are read for the first time.

    It may be forked or pickled into other processes of this machine. What a process writes while another reads is told
    by a checksum, so that no locks are needed; two that fill in the same volume write the same bytes.

    Args:
        store: an open store.
        rows: rows of its manifest, in the order in which they get room.
        gigabytes: the most memory to take.

    Raises:
        InputError: more than the machine has, or a system other than Linux.
    """

    def __init__(self, store: VolumeStore, rows: npt.NDArray[np.int64], gigabytes: float) -> None:
        if not hasattr(os, "memfd_create"):
            raise InputError(f"ram_cache_gb needs Linux, and this is {platform.system()}; set ram_cache_gb=0")
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if gigabytes > total:
            raise InputError(f"ram_cache_gb={gigabytes:g} is more than the {total:.0f} GB that this machine has")
        self.store = store
        volumes = store.manifest["volume"].iloc[rows]
        sizes = np.array([(store.path / volume).stat().st_size for volume in volumes], np.int64)
        ends = np.cumsum(sizes + _CHECKSUM)
        n = int(np.searchsorted(ends, gigabytes * 1e9, side="right"))
        self.slot = np.full(len(store.manifest), -1)  # of each row; -1: no room
        self.slot[rows[:n]] = np.arange(n)
        self.bounds = n * _CHECKSUM + np.concatenate([[0], np.cumsum(sizes[:n])])
        # A file without a name, which vanishes with the last process that holds it, however that ends.
        descriptor = os.memfd_create("neuro_ssl volumes")
        os.truncate(descriptor, max(int(self.bounds[-1]), 1))
        weakref.finalize(self, os.close, descriptor)
        self._attach(f"/proc/{os.getpid()}/fd/{descriptor}")

    def _attach(self, place: str) -> None:
        self.place = place
        with open(place, "r+b") as file:  # noqa: PTH123 - a Path would be resolved, and there is no such file
            self.memory = mmap.mmap(file.fileno(), 0)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "memory"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach(self.place)

    def share(self) -> None:
        """Use the memory of the first process on this machine; all processes of a run call it together."""
        places = gather_objects([(platform.node(), self.place)])
        self._attach(next(place for machine, place in places if machine == platform.node()))

    def read(self, row: int, volume: str) -> npt.NDArray[np.float16]:
        """Decode a volume, as `VolumeStore.read` does.

        Args:
            row: of the manifest.
            volume: as that row names it.

        Raises:
            InputError: the file is damaged, cannot be read, or is another than when the cache was made.
        """
        slot = int(self.slot[row])
        if slot < 0:
            return self.store.read(volume)
        place = slice(int(self.bounds[slot]), int(self.bounds[slot + 1]))
        checksum = slice(slot * _CHECKSUM, (slot + 1) * _CHECKSUM)
        content = self.memory[place]
        if self.memory[checksum] != _crc(content):
            content = volume_bytes(self.store.path / volume)
            if len(content) != place.stop - place.start:
                raise InputError(f"{self.store.path / volume} was replaced during training; start the command again")
            self.memory[place] = content
            self.memory[checksum] = _crc(content)
        return decode_volume(content, self.store.path / volume)


def _crc(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "little")
