"""Time and memory of a pretraining step, direct and gradient-cached, without the cost of making views."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuro_ssl.benchmarking.measurement import OURS, Measurement, seconds_of
from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR


class NoViews(nn.Module):
    """The volume itself: views cost nothing."""

    def forward(self, volume: Tensor, keys: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → the same, float32."""
        return volume.float()


class _Step:
    """One forward and backward of SimCLR on random volumes; the gradients are dropped again.

    Args:
        encoder: a fresh one.
        pairs: scans of the batch.
        micro_batch_size: of a gradient-cached step; None: a direct one.
        shape_zyx: voxels of a volume.
        device: where to.
        autocast: in bfloat16.
    """

    def __init__(
        self,
        encoder: nn.Module,
        pairs: int,
        micro_batch_size: int | None,
        shape_zyx: Sequence[int],
        device: str,
        autocast: bool,
    ) -> None:
        self.task = SimCLR(encoder, NoViews(), Optimizer(), 0, micro_batch_size=micro_batch_size).to(device)
        number = torch.arange(pairs, device=device)
        volume = torch.rand(pairs, 1, *shape_zyx, generator=torch.Generator().manual_seed(0)).half()
        if micro_batch_size is None:
            volume = volume.to(device)
        elif device != "cpu":
            volume = volume.pin_memory()
        self.batch: dict[str, Any] = {"volume": volume, "epoch": 0 * number, "shares": (pairs,)}
        self.batch |= dict.fromkeys(("scan", "subject", "draw"), number)
        self.autocast = torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=autocast)

    def __call__(self) -> None:
        with self.autocast:
            loss, _, _ = self.task.contrast(self.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.task.zero_grad(set_to_none=True)


def step(
    encoders: Mapping[str, Callable[[], nn.Module]],
    shape_zyx: Sequence[int],
    device: str,
    *,
    pairs: int,
    micro_batch_size: int,
    repetitions: int,
    autocast: bool,
) -> list[Measurement]:
    """Seconds a pair and memory, beyond weights and source volumes, of direct and gradient-cached steps.

    The two take turns, so that whatever else the machine does falls on both.

    Args:
        encoders: what makes a fresh encoder, by name.
        shape_zyx: voxels of a volume.
        device: where to.
        pairs: scans of a batch.
        micro_batch_size: of the cached steps.
        repetitions: steps that are timed, after two that aren't.
        autocast: in bfloat16.
    """
    rows = []
    for name, make in encoders.items():
        sizes = {"direct": None, f"gradient-cached by {micro_batch_size}": micro_batch_size}
        steps = {how: _Step(make(), pairs, size, shape_zyx, device, autocast) for how, size in sizes.items()}
        for once in steps.values():
            once()  # sets up what is set up once
        memory = {how: peak_bytes(one, torch.device(device)) / 1e6 for how, one in steps.items()}
        times: dict[str, list[float]] = {how: [] for how in steps}
        for _ in range(repetitions):
            for how, one in steps.items():
                times[how].append(seconds_of(one, device) / pairs)
        rows += [
            Measurement(
                "step",
                f"{name}, {pairs} pairs, {how}",
                OURS,
                seconds=statistics.median(each),
                unit="pair",
                low=min(each),
                high=max(each),
                repetitions=repetitions,
                peak_mb=memory[how],
            )
            for how, each in times.items()
        ]
    return rows
