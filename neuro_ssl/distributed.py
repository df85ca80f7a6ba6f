"""What several processes need to compute the same numbers as one: gathering rows of unequal length, with gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def world_size() -> int:
    """Number of processes that work on this run; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 without torch.distributed."""
    return dist.get_rank() if world_size() > 1 else 0


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Concatenate the rows of all ranks, in rank order; ranks may hold different numbers of rows.

    Gradients flow back to the rank that a row came from, summed over all ranks that used it. (A gather whose
    backward drops the other ranks' share shrinks gradients by the number of ranks after DDP's averaging.)

    Args:
        rows: (n_local, ...).

    Returns:
        The (n_global, ...) tensor, and the position of this rank's first row in it.
    """
    if world_size() == 1:
        return rows, 0
    n_local = torch.tensor([len(rows)], device=rows.device)
    gathered = [torch.zeros_like(n_local) for _ in range(world_size())]
    dist.all_gather(gathered, n_local)
    lengths = [int(n) for n in gathered]
    padded = torch.cat([rows, rows.new_zeros(max(lengths) - len(rows), *rows.shape[1:])])
    if rows.requires_grad:
        parts = list(all_gather(padded))  # type: ignore[no-untyped-call]
    else:
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded.contiguous())
    return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)]), sum(lengths[: rank()])


def gather_objects(objects: list[Any]) -> list[Any]:
    """Concatenate every rank's list of picklable objects, in rank order, on every rank."""
    if world_size() == 1:
        return objects
    gathered: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, objects)
    return [item for part in gathered for item in part]
