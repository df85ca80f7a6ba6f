"""Which scans a step sees: one global order an epoch, shared out over the ranks.

The order depends on (seed, epoch) alone, whatever the sampling, and so is the same after a restart. Every draw carries
its epoch and its place in that order with it through the loader, so that what is made of it (its views) depends on
neither workers, ranks nor prefetching.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from neuro_ssl.errors import InputError


class Draw(NamedTuple):
    """One scan drawn in one epoch: its row in the dataset, the epoch, and its place in the epoch's order."""

    row: int
    epoch: int
    position: int


class Share(list[Draw]):
    """One rank's draws of a batch, and `counts`: how many of them every rank has, so that no step need ask for it."""

    def __init__(self, draws: Iterable[Draw], counts: tuple[int, ...]) -> None:
        super().__init__(draws)
        self.counts = counts

    def __reduce__(self) -> tuple[Any, ...]:
        return Share, (list(self), self.counts)


@dataclass(frozen=True)
class Sampling:
    """How an epoch is drawn from the training scans.

    Args:
        sessions: all: every scan is drawn once an epoch; one: of every subject one scan, another one each epoch.
        balance: groups whose shares of an epoch are set by `exponent`; its length stays. None: every scan alike.
        exponent: a group of n scans (with sessions=one: subjects) gets a share ∝ n^exponent. 1: as they are; 0: all
            groups alike; between them, small cohorts are seen more often, without being learnt by heart. (Conneau et
            al. 2020, XLM-R, equation 1, for languages, with 0.3.)

    Raises:
        InputError: an exponent outside 0 to 1.
    """

    sessions: Literal["all", "one"] = "all"
    balance: Literal["cohort", "class"] | None = None
    exponent: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise InputError(f"sampling.exponent must be from 0 to 1, got {self.exponent:g}")


class EpochOrder:
    """The rows of a dataset that an epoch draws, in their order.

    A group with a larger share than its own repeats all its scans before it repeats one more often than another; one
    with a smaller share shows another random part each epoch. Shares that are no whole numbers of draws are rounded
    at random (systematic sampling), so that over the epochs they are exact.

    Args:
        subject: number of each row's subject.
        group: number of each row's group, from 0, for `sampling.balance`; None without.
        sampling: how to draw.
        seed: of the order.
    """

    def __init__(
        self, subject: npt.NDArray[Any], group: npt.NDArray[Any] | None, sampling: Sampling, seed: int
    ) -> None:
        self.group, self.sampling, self.seed = group, sampling, seed
        self.n_rows = len(subject)
        self.by_subject = np.argsort(subject, kind="stable")
        self.first, self.n_scans = np.unique(subject[self.by_subject], return_index=True, return_counts=True)[1:]

    def __len__(self) -> int:
        """Draws an epoch."""
        return self.n_rows if self.sampling.sessions == "all" else len(self.first)

    def __call__(self, epoch: int) -> npt.NDArray[np.int64]:
        """The rows of an epoch."""
        random = np.random.default_rng([self.seed, epoch])
        rows = np.arange(self.n_rows)
        if self.sampling.sessions == "one":
            rows = self.by_subject[self.first + random.integers(self.n_scans)]
        if self.group is not None:
            rows = self._balanced(rows, self.group[rows], random)
        return random.permutation(rows)

    def _balanced(
        self, rows: npt.NDArray[np.int64], group: npt.NDArray[Any], random: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        names, sizes = np.unique(group, return_counts=True)
        share = sizes**self.sampling.exponent
        ends = np.floor(np.cumsum(len(rows) * share / share.sum()) + random.random() + 1e-9)
        ends[-1] = len(rows)
        drawn = []
        for name, n in zip(names, np.diff(ends, prepend=0).astype(int), strict=True):
            members = rows[group == name]
            whole, rest = divmod(n, len(members))
            drawn += [np.tile(members, whole), random.permutation(members)[:rest]]
        return np.concatenate(drawn)


class BatchSampler(Sampler[Share]):
    """Batches of draws for this rank.

    An epoch's scans are divided into ⌈n / batch_size⌉ batches whose sizes differ by one at most, so that no scan is
    dropped and no batch is a small rest, which would upset batch statistics and leave few negatives.

    Args:
        n_scans: scans in the dataset, or draws of the order.
        batch_size: scans a step over all ranks.
        order: which rows an epoch draws; None: all in the dataset's own order.
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
        order: EpochOrder | None = None,
        start: tuple[int, int] = (0, 0),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.n_scans, self.order = n_scans, order
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

    def __iter__(self) -> Iterator[Share]:
        order = np.arange(self.n_scans) if self.order is None else self.order(self.epoch)
        positions = np.arange(self.n_scans)
        first = self.start[1] if self.epoch == self.start[0] else 0
        for batch in np.array_split(positions, self.n_batches)[first:]:
            shares = np.array_split(batch, self.world_size)
            mine = (Draw(int(order[position]), self.epoch, int(position)) for position in shares[self.rank])
            yield Share(mine, tuple(map(len, shares)))
