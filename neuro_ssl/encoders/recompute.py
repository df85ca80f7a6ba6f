"""Activations that are computed again in the backward pass instead of being kept (activation checkpointing)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(stage: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Apply modules one after another, and keep nothing but `x` for the backward pass.

    Gradients, and batch norm's running statistics, are those of the plain computation.
    """

    def run(x: Tensor) -> Tensor:
        for module in stage:
            x = module(x)
        return x

    if torch.compiler.is_compiling():  # which takes no contexts, and traces the update once, whatever it computes twice
        return checkpoint(run, x, use_reentrant=False)  # type: ignore[no-any-return]
    return checkpoint(  # type: ignore[no-any-return]
        run, x, use_reentrant=False, context_fn=lambda: (nullcontext(), unchanged_buffers(stage))
    )


@contextmanager
def unchanged_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """What modules keep of the batches they see, such as running statistics, stays as it is.

    A second look at the same batch must not count twice. Copies are updated in the buffers' place. (Without any, batch
    norm would save other tensors for the backward pass than at the first look, which `checkpoint` refuses.)
    """
    kept = [(m, dict(m._buffers)) for module in modules for m in module.modules() if m._buffers]
    for owner, buffers in kept:
        owner._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for owner, buffers in kept:
            owner._buffers.update(buffers)
