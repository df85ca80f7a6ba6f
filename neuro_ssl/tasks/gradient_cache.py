"""Gradient caching (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").

A contrastive loss needs the embeddings of the whole batch at once, but not what led to them. So micro-batches are
embedded one after another, keeping nothing but the embeddings, and each is computed again when the backward reaches it:
one loss, one backward, the gradient of the whole batch. Differs: checkpoints of autograd do it, and not a second pass
by hand, so that DDP, gradient clipping and mixed precision need not know.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from neuro_ssl.encoders.recompute import unchanged_buffers


def n_micro_batches(shares: Sequence[int], micro_batch_size: int | None) -> int:
    """Into how many micro-batches every rank divides its share: equally many, none of them empty.

    Synchronised batch norm needs that, whose processes meet in every micro-batch. (So with a size of 1 and shares of
    unequal size, a rank holds 2 once.)

    Args:
        shares: number of scans on every rank.
        micro_batch_size: the most that a rank holds at once; None: all.
    """
    return min(math.ceil(max(shares) / micro_batch_size), *shares) if micro_batch_size else 1


def in_micro_batches(embed: Callable[[slice], Tensor], n_rows: int, n_parts: int, module: nn.Module) -> Tensor:
    """Embeddings of all rows, of which the backward recomputes all micro-batches but the last.

    Args:
        embed: rows of the batch → their embeddings, equal ones each time that it is called (random numbers of torch's
            generators are restored, and `module` keeps its buffers, so that batch norm counts nothing twice).
        n_rows: in the batch.
        n_parts: number of micro-batches, from 1 (nothing is recomputed) to `n_rows`. They differ by one row at most.
        module: what `embed` runs.
    """
    if n_parts == 1:
        return embed(slice(0, n_rows))
    parameter = next(module.parameters())
    bounds = [i * n_rows // n_parts for i in range(n_parts + 1)]
    parts = []
    with _weights_cast_anew(parameter.device.type):
        for start, stop in itertools.pairwise(bounds):
            rows = slice(start, stop)
            if stop == n_rows or not torch.is_grad_enabled():
                # The backward begins with the last micro-batch, and needs nothing else meanwhile: it is kept.
                parts.append(embed(rows))
                continue
            part: Tensor = checkpoint(
                lambda rows, _: embed(rows),
                *(rows, parameter),  # its device is the one whose random numbers are restored
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), unchanged_buffers([module])),
            )
            parts.append(part)
    return torch.cat(parts)


def _weights_cast_anew(device_type: str) -> torch.autocast:
    """Autocast as it is, but half-precision weights aren't kept from one micro-batch to the next.

    A kept one would sum the gradients of all micro-batches in half precision, before they reach the float32 weight.
    """
    enabled, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    return torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=False)


def normalises_over_batch(module: nn.Module) -> bool:
    """Whether the size of micro-batches affects the result: whether there is batch normalisation."""
    return any(isinstance(m, _BatchNorm) for m in module.modules())
