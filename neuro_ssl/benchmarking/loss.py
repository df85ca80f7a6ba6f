"""Memory and time of NT-Xent, beside the form that the paper's code computes it in."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.losses import nt_xent

SIZES = ((1024, 64), (4096, 128))  # pairs, width of the projections
TEMPERATURE = 0.1
LARGEST_BROADCAST = 8 * 2**30  # bytes of one (2N)² × D tensor; several are held


def broadcast_nt_xent(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    """NT-Xent by cosine similarities of all pairs of rows side by side, (2N)² × D numbers."""
    z_MD = torch.cat([z1_ND, z2_ND])
    logits_MM = F.cosine_similarity(z_MD[:, None], z_MD[None], dim=2) / TEMPERATURE
    logits_MM = logits_MM.masked_fill(torch.eye(len(z_MD), dtype=torch.bool, device=z_MD.device), -torch.inf)
    partner_M = torch.arange(len(z_MD), device=z_MD.device).roll(len(z1_ND))
    return F.cross_entropy(logits_MM, partner_M)


def block_nt_xent(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    """Ours."""
    return nt_xent(z1_ND, z2_ND, torch.arange(len(z1_ND), device=z1_ND.device), TEMPERATURE)[0]


def measure_loss(device: torch.device, sizes: Sequence[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Forward and backward of both forms on random projections.

    Args:
        device: where to.
        sizes: (pairs, width) of each case; the paper's form is left out where one of its tensors passes 8 GB.

    Returns:
        One row a case: `name`, `pairs`, `width`, `seconds` (the second of two calls), and `bytes`, the most that was
        held beyond the projections.
    """
    rows = []
    forms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"block": block_nt_xent, "broadcast": broadcast_nt_xent}
    for pairs, width in sizes:
        for name, form in forms.items():
            if name == "broadcast" and (2 * pairs) ** 2 * width * 4 > LARGEST_BROADCAST:
                continue
            generator = torch.Generator().manual_seed(0)
            z1, z2 = (torch.randn(pairs, width, generator=generator).to(device).requires_grad_() for _ in range(2))

            def work(form: Callable[[Tensor, Tensor], Tensor] = form, z1: Tensor = z1, z2: Tensor = z2) -> None:
                form(z1, z2).backward()  # type: ignore[no-untyped-call]

            n_bytes = peak_bytes(work, device)
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - start
            rows.append({"name": name, "pairs": pairs, "width": width, "seconds": seconds, "bytes": n_bytes})
    return rows
