"""Time and memory of NT-Xent, beside the form that the paper's code computes it in."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuro_ssl.benchmarking import reference
from neuro_ssl.benchmarking.measurement import OURS, REFERENCE, Measurement, measure
from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.losses import nt_xent

TEMPERATURE = 0.1
LARGEST_BROADCAST = 8 * 2**30  # bytes of one (2N)² × D tensor; several are held

Loss = Callable[[Tensor, Tensor], Tensor]


def in_blocks(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    """Ours, each pair of a subject of its own."""
    return nt_xent(z1_ND, z2_ND, torch.arange(len(z1_ND), device=z1_ND.device), TEMPERATURE)[0]


def by_broadcasting(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    """The paper's."""
    return reference.nt_xent(z1_ND, z2_ND, TEMPERATURE)


def loss(device: str, min_seconds: float, sizes: Sequence[tuple[int, int]]) -> list[Measurement]:
    """Forward and backward of both forms on random projections; memory beyond the projections.

    Args:
        device: where to.
        min_seconds: for how long to measure each case.
        sizes: (pairs, width) of each case; the paper's form is left out where one of its tensors passes 8 GB.
    """
    rows = []
    forms: dict[str, Loss] = {OURS: in_blocks, REFERENCE: by_broadcasting}
    for pairs, width in sizes:
        for side, form in forms.items():
            if side == REFERENCE and (2 * pairs) ** 2 * width * 4 > LARGEST_BROADCAST:
                continue
            generator = torch.Generator().manual_seed(0)
            z1, z2 = (torch.randn(pairs, width, generator=generator).to(device).requires_grad_() for _ in range(2))

            def call(form: Loss = form, z1: Tensor = z1, z2: Tensor = z2) -> None:
                form(z1, z2).backward()  # type: ignore[no-untyped-call]

            megabytes = peak_bytes(call, torch.device(device)) / 1e6
            seconds = measure(call, min_seconds=min_seconds, device=device, least=2)
            rows.append(
                Measurement("loss", f"{pairs} pairs × {width}", side, unit="call", peak_mb=megabytes, **seconds)
            )
    return rows
