"""Several targets at once, on one encoder: what they share is learnt from all labels, also of scans that lack some."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from neuro_ssl.data.targets import read_targets
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.supervised import SupervisedTask


class Multitask(SupervisedTask):
    """A linear layer with an output for each target.

    Args:
        encoder: see `SupervisedTask`, as views, optimizer, seed, frozen, target_mean, target_sd, standardise_target and
            standardise_features.
        targets: name of a task → its target, classes, leave_out, unit, weight and reference (see
            `data.targets.Target`). Reports show a target beside runs of the task of this name.
    """

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        frozen: bool,
        target_mean: float | Sequence[float],
        target_sd: float | Sequence[float],
        targets: dict[str, dict[str, Any]],
        standardise_target: bool = True,
        standardise_features: bool = True,
    ) -> None:
        parts = (encoder, views, optimizer, seed, frozen, target_mean, target_sd)
        super().__init__(*parts, read_targets("", {"targets": targets}), standardise_target, standardise_features)
