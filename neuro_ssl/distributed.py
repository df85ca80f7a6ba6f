"""What several processes need to compute the same numbers as one, also where their shares of a batch differ in size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

NEEDS_GPUS = (
    "PyTorch synchronises batch norm on GPUs alone: take encoder.norm=group, or set trainer.sync_batchnorm=false, "
    "whereupon each process normalises over its own share of a batch"
)
_alone = False


def world_size() -> int:
    """Number of processes that work on this run; 1 without torch.distributed, and within `alone`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone else 1


@contextmanager
def alone(module: nn.Module) -> Iterator[None]:
    """What this process computes meanwhile is its own affair: it waits for no other, also in synchronised batch norm.

    Args:
        module: what it computes with.
    """
    global _alone
    groups = {layer: layer.process_group for layer in module.modules() if isinstance(layer, nn.SyncBatchNorm)}
    before, _alone = _alone, True
    for layer in groups:
        layer.process_group = dist.GroupMember.NON_GROUP_MEMBER  # in no group, it has nobody to ask
    try:
        yield
    finally:
        _alone = before
        for layer, group in groups.items():
            layer.process_group = group


def rank() -> int:
    """Index of this process; 0 without torch.distributed, and within `alone`."""
    return dist.get_rank() if world_size() > 1 else 0


def count_shares(n_local: int, device: torch.device) -> list[int]:
    """The number of rows on every rank, in rank order. The host waits for the device to answer."""
    if world_size() == 1:
        return [n_local]
    mine = torch.tensor([n_local], device=device)
    gathered = [torch.zeros_like(mine) for _ in range(world_size())]
    dist.all_gather(gathered, mine)
    return [int(n) for n in gathered]


def gather_rows(rows: Tensor, shares: Sequence[int] | None = None) -> tuple[Tensor, int]:
    """Concatenate the rows of all ranks, in rank order; ranks may hold different numbers of rows.

    Gradients flow back to the rank that a row came from, summed over all ranks that used it. (A gather whose
    backward drops the other ranks' share shrinks gradients by the number of ranks after DDP's averaging.)

    Args:
        rows: (n_local, ...).
        shares: number of rows on every rank, where the host knows it (a batch's `shares`); else they are asked for,
            and the host waits for the device.

    Returns:
        The (n_global, ...) tensor, and the position of this rank's first row in it.
    """
    if world_size() == 1:
        return rows, 0
    lengths = count_shares(len(rows), rows.device) if shares is None else list(shares)
    padded = torch.cat([rows, rows.new_zeros(max(lengths) - len(rows), *rows.shape[1:])])
    parts = _AllGather.apply(padded)  # type: ignore[no-untyped-call]
    return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)]), sum(lengths[: rank()])


class _AllGather(torch.autograd.Function):
    """All ranks' tensors of one shape, stacked; what flows back to each is summed over the ranks.

    (PyTorch's own, `torch.distributed.nn.functional.all_gather`, is deprecated, and its successor private.)
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[rank()]


def weighted_for_ddp(mean: Tensor, n_local: int, shares: Sequence[int] | None = None) -> Tensor:
    """Scale a mean over this rank's rows so that DDP's average over ranks is the mean over the rows of all ranks.

    Args:
        mean: a scalar, such as a loss.
        n_local: the number of rows that it is the mean of.
        shares: of every rank, where the host knows them; else they are asked for.
    """
    if world_size() == 1:
        return mean
    n_global: int | Tensor
    if shares is None:
        n_global = torch.full((), n_local, device=mean.device)
        dist.all_reduce(n_global)
    else:
        n_global = sum(shares)
    return mean * (n_local * world_size()) / n_global


def sum_over_ranks(numbers: Tensor) -> Tensor:
    """The sum of every rank's tensor, without gradients; no host waits for it."""
    if world_size() == 1:
        return numbers
    total = numbers.detach().clone()
    dist.all_reduce(total)
    return total


def gather_objects(objects: list[Any]) -> list[Any]:
    """Concatenate every rank's list of picklable objects, in rank order, on every rank."""
    if world_size() == 1:
        return objects
    gathered: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, objects)
    return [item for part in gathered for item in part]


class Agreement:
    """What any process asks for, known to all of them after the same step, and without a wait for a device.

    Every process tells its wish at every step, and hears what was wished for at the step before: the sum goes round
    among the hosts (gloo), while the devices work. On one process the answer is its own wish, at once.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo") if world_size() > 1 else None
        self._pending: tuple[dist.Work, Tensor] | None = None

    def reach(self, *wishes: int) -> list[int]:
        """The largest of all processes' wishes of the step before; zeros at the first.

        Args:
            wishes: of this process at this step, each ≥ 0.
        """
        if self._group is None:
            return list(wishes)
        before = self._heard() or [0] * len(wishes)
        numbers = torch.tensor(wishes)
        work = dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._pending = work, numbers
        return before

    def end(self) -> list[int]:
        """The largest of all processes' last wishes, if there are any to be heard still; nobody is asked after that."""
        if self._group is None:
            return []
        last = self._heard()
        dist.destroy_process_group(self._group)
        self._group = None
        return last

    def _heard(self) -> list[int]:
        if self._pending is None:
            return []
        work, numbers = self._pending
        work.wait()
        self._pending = None
        return [int(number) for number in numbers]
