"""Which scans a step sees: one global order an epoch, shared out over the ranks.

The order depends on (seed, epoch) alone. Every draw carries its epoch and its place in that order with it through
the loader, so that what is made of it (its views) depends on neither workers, ranks nor prefetching.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from neuro_ssl.errors import InputError


class Draw(NamedTuple):
    """One scan drawn in one epoch: its row in the dataset, the epoch, and its place in the epoch's order."""

    row: int
    epoch: int
    position: int


class BatchSampler(Sampler[list[Draw]]):
    """Batches of draws for this rank.

    An epoch's scans are divided into ⌈n / batch_size⌉ batches whose sizes differ by one at most, so that no scan is
    dropped and no batch is a small rest, which would upset batch statistics and leave few negatives.

    Args:
        n_scans: scans in the dataset.
        batch_size: scans a step over all ranks.
        seed: of the order.
        shuffle: a new order each epoch; else the dataset's own order.
        start: (epoch, batch): in that epoch, begin at that batch; where a run goes on that ended within an epoch.
        rank: index of this process.
        world_size: number of processes.

    Raises:
        InputError: a batch would be smaller than the number of processes.
    """

    def __init__(
        self,
        n_scans: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        start: tuple[int, int] = (0, 0),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n_scans, self.seed, self.shuffle = n_scans, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.n_batches = math.ceil(n_scans / batch_size)
        if n_scans // self.n_batches < world_size:
            raise InputError(
                f"{n_scans} scans in batches of {batch_size} cannot be shared out over {world_size} processes: "
                "use fewer devices or a larger batch_size"
            )
        self.start = start
        self.epoch = start[0]  # loaders fetch ahead before anyone sets the epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        order = np.arange(self.n_scans)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_scans)
        positions = np.arange(self.n_scans)
        first = self.start[1] if self.epoch == self.start[0] else 0
        for batch in np.array_split(positions, self.n_batches)[first:]:
            mine = np.array_split(batch, self.world_size)[self.rank]
            yield [Draw(int(order[position]), self.epoch, int(position)) for position in mine]
