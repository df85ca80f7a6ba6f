"""Activations that are computed again in the backward pass instead of being kept (activation checkpointing)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(stage: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Apply modules one after another, and keep nothing but `x` for the backward pass.

    Gradients, and batch norm's running statistics, are those of the plain computation.
    """

    def run(x: Tensor) -> Tensor:
        for module in stage:
            x = module(x)
        return x

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), still_statistics(stage)

    if torch.compiler.is_compiling():  # which takes no contexts, and traces the update once, whatever it computes twice
        return checkpoint(run, x, use_reentrant=False)  # type: ignore[no-any-return]
    return checkpoint(run, x, use_reentrant=False, context_fn=contexts)  # type: ignore[no-any-return]


@contextmanager
def still_statistics(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Leave batch norm's running statistics alone: a second look at the same batch must not count twice.

    Copies are updated in their place. (Without any, batch norm would save other tensors for the backward pass than at
    the first look, which `checkpoint` refuses.)
    """
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm)]
    kept = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    for norm, statistics in kept:
        for name, value in statistics.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, statistics in kept:
            for name, value in statistics.items():
                setattr(norm, name, value)
