"""Optimisers and learning-rate schedules."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What a training run optimises with; `build` makes it for a model.

    Args:
        algorithm: `adamw` (decoupled weight decay, not on biases and norms) or `adam` (the paper).
        learning_rate: peak rate.
        weight_decay: of weight matrices and kernels.
        schedule: `cosine` down to zero over the run, or `constant`.
        warmup_fraction: share of all steps in which the rate rises linearly from zero.
    """

    algorithm: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = 0.05

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise InputError(f"optimizer.learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(f"optimizer.warmup_fraction must be in [0, 1), got {self.warmup_fraction}")

    def build(self, parameters: Iterable[nn.Parameter], n_steps: int) -> dict[str, Any]:
        """Optimiser and schedule in the form that `LightningModule.configure_optimizers` returns.

        Args:
            parameters: those to train; others may be among them, marked by `requires_grad=False`.
            n_steps: optimiser steps of the whole run.
        """
        trained = [p for p in parameters if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        algorithm = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[self.algorithm]
        optimizer = algorithm(groups, lr=self.learning_rate)
        warmup_steps = self.warmup_fraction * n_steps

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            if self.schedule == "constant":
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, n_steps - warmup_steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
