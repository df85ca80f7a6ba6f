"""Optimisers and learning-rate schedules."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What a training run optimises with; `build` makes it for a model.

    Nothing scales the learning rate with the batch: it is what is asked for. SimCLR's rule for LARS, which the paper's
    LARS branch follows, is 0.3 × batch_size / 256 with weight decay 1e-6 and a cosine: at batch_size 72, 0.084.

    Args:
        algorithm: `adamw` (decoupled weight decay), `adam` (the paper), or `lars` (You et al. 2017: momentum 0.9, each
            layer's rate × 0.001 ‖w‖ / ‖gradient‖; for batches of thousands). None decays or adapts biases and norms.
        learning_rate: peak rate.
        weight_decay: of weight matrices and kernels.
        schedule: `cosine` down to zero over the run, or `constant`.
        warmup_fraction: share of all steps in which the rate rises linearly from zero.
        fused: Adam's and AdamW's update in one kernel: the same numbers but for rounding, in less time and with
            less memory (experiments/throughput). LARS has none.
        layer_decay: layer-wise rates, for fine-tuning: the head learns at the full rate, each group of the encoder's
            layers at this factor times the rate of the one after it, down to the input. 1: all alike. (BEiT, Bao et al.
            2022, and MAE, He et al. 2022. They count the last norm with the head; here it is the encoder's last group.)
    """

    algorithm: Literal["adamw", "adam", "lars"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = 0.05
    fused: bool = True
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise InputError(f"optimizer.learning_rate must be positive, got {self.learning_rate}")
        if not self.weight_decay >= 0:
            raise InputError(f"optimizer.weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(f"optimizer.warmup_fraction must be in [0, 1), got {self.warmup_fraction}")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optimizer.layer_decay must be in (0, 1], got {self.layer_decay}")

    def build(
        self, parameters: Iterable[nn.Parameter], n_steps: int, encoder: nn.Module | None = None
    ) -> dict[str, Any]:
        """Optimiser and schedule in the form that `LightningModule.configure_optimizers` returns.

        Args:
            parameters: those to train; others may be among them, marked by `requires_grad=False`.
            n_steps: optimiser steps of the whole run.
            encoder: whose parameters, among these, `layer_decay` slows down by depth.

        Raises:
            InputError: `layer_decay` is asked for, and the encoder doesn't say what lies how deep.
        """
        trained = [p for p in parameters if p.requires_grad]
        factors = self._layer_factors(encoder)
        groups = [
            {
                "params": [p for p in trained if (p.ndim > 1) == decays and factors.get(p, 1.0) == factor],
                "weight_decay": self.weight_decay if decays else 0.0,
                "lr": factor * self.learning_rate,
            }
            for factor in sorted({1.0, *factors.values()}, reverse=True)  # the first group's rate is what is logged
            for decays in (True, False)
        ]
        optimizer = self._algorithm(groups)
        optimizer.register_load_state_dict_post_hook(_lay_out_state_as_parameters)
        warmup_steps = self.warmup_fraction * n_steps

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            if self.schedule == "constant":
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, n_steps - warmup_steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _layer_factors(self, encoder: nn.Module | None) -> dict[nn.Parameter, float]:
        """What the rate of each of the encoder's parameters is multiplied by; none is listed where all are alike."""
        if self.layer_decay == 1:
            return {}
        depth_groups: Callable[[], list[list[nn.Parameter]]] | None = getattr(encoder, "depth_groups", None)
        if depth_groups is None:
            raise InputError(
                f"optimizer.layer_decay={self.layer_decay} goes by an encoder's depth_groups, which "
                f"{type(encoder).__name__} lacks: derive it from neuro_ssl.encoders.Encoder, or set "
                "optimizer.layer_decay=1.0"
            )
        groups = depth_groups()
        return {p: self.layer_decay ** (len(groups) - depth) for depth, group in enumerate(groups) for p in group}

    def _algorithm(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if self.algorithm == "lars":
            from pytorch_optimizer import LARS  # a second to import, and rarely wanted

            return LARS(groups, lr=self.learning_rate)
        algorithm = torch.optim.AdamW if self.algorithm == "adamw" else torch.optim.Adam
        optimizer = algorithm(groups, lr=self.learning_rate, fused=self.fused)
        # A fused step can undo float16's gradient scaling itself, but after clipping, which Lightning therefore refuses
        # in any mixed precision. With this it is undone before, as for every other optimiser.
        optimizer._step_supports_amp_scaling = False
        optimizer.register_load_state_dict_pre_hook(self._with_own_kernel)
        return optimizer

    def _with_own_kernel(self, _: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """A loaded state, that may have been begun with the other value of `fused`, which torch would go on with."""
        return {**state, "param_groups": [{**group, "fused": self.fused} for group in state["param_groups"]]}


def _lay_out_state_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """After loading: fused kernels walk through parameter and state side by side, whatever their strides say.

    A checkpoint's layout differs from the model's when a run goes on with another `channels_last`.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
