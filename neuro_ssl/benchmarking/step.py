"""Time and memory of a pretraining step, direct and gradient-cached, without the cost of making views."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR


class NoViews(nn.Module):
    """The volume itself: views cost nothing."""

    def forward(self, volume: Tensor, keys: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → the same, float32."""
        return volume.float()


def measure_step(
    device: torch.device,
    shape_zyx: Sequence[int] = (76, 96, 96),
    pairs: Sequence[int] = (4, 8),
    micro_batch_size: int = 2,
    width: int = 16,
    stem_strides: Sequence[int] = (1, 2),
    repeats: int = 3,
    autocast: bool = False,
) -> list[dict[str, Any]]:
    """Forward and backward of SimCLR on random volumes.

    Direct and gradient-cached steps take turns, so that whatever else the machine does falls on both.

    Args:
        device: where to.
        shape_zyx: voxels of a volume; by default 2 mm. At a few thousand voxels the ratio says little: what a
            micro-batch costs in itself, and not by the voxel, shows there.
        pairs: batch sizes.
        micro_batch_size: of the cached steps.
        width: of the ResNet-18; 64 is the whole one.
        stem_strides: of the ResNet-18.
        repeats: steps that are timed, after one that isn't.
        autocast: in bfloat16.

    Returns:
        One row a case: `name`, `stem_stride`, `pairs`, `micro_batch_size`, `seconds_per_pair` (the median), `ratio` (of
        it to the direct step's), and `bytes`, the most that a step held beyond weights and source volumes.
    """
    rows = []
    for stem_stride in stem_strides:
        for n in pairs:
            batch = _batch(n, shape_zyx)
            steps = {"direct": _Step(None, width, stem_stride, batch, device, autocast)}
            steps["cached"] = _Step(micro_batch_size, width, stem_stride, batch, device, autocast)
            memory = {name: peak_bytes(step, device) for name, step in steps.items()}
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for _ in range(repeats):
                for name, step in steps.items():
                    start = time.perf_counter()
                    step()
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    seconds[name].append((time.perf_counter() - start) / n)
            for name in steps:
                row: dict[str, Any] = {"name": name, "stem_stride": stem_stride, "pairs": n}
                row["micro_batch_size"] = micro_batch_size if name == "cached" else n
                row["seconds_per_pair"] = statistics.median(seconds[name])
                row["ratio"] = row["seconds_per_pair"] / statistics.median(seconds["direct"])
                rows.append(row | {"bytes": memory[name]})
    return rows


def _batch(n: int, shape_zyx: Sequence[int]) -> dict[str, Any]:
    volume = torch.rand(n, 1, *shape_zyx, generator=torch.Generator().manual_seed(0)).half()
    number = torch.arange(n)
    return {"volume": volume, "scan": number, "subject": number, "draw": number, "epoch": 0 * number, "shares": (n,)}


class _Step:
    """One forward and backward of a fresh SimCLR; the gradients are dropped again."""

    def __init__(
        self,
        micro_batch_size: int | None,
        width: int,
        stem_stride: int,
        batch: dict[str, Any],
        device: torch.device,
        autocast: bool,
    ) -> None:
        encoder = ResNet3D(width=width, stem_stride=stem_stride)
        self.task = SimCLR(encoder, NoViews(), Optimizer(), 0, micro_batch_size=micro_batch_size).to(device)
        self.batch = {key: value if key in ("volume", "shares") else value.to(device) for key, value in batch.items()}
        if micro_batch_size is None:
            self.batch["volume"] = self.batch["volume"].to(device)
        elif device.type == "cuda":
            self.batch["volume"] = self.batch["volume"].pin_memory()
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast)
        self()  # what is set up once

    def __call__(self) -> None:
        with self.autocast:
            loss, _, _ = self.task.contrast(self.batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.task.zero_grad(set_to_none=True)
