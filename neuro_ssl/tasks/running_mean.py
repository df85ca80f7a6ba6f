"""Means over steps that never make the host wait for the device."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class RunningSums(Metric):
    """Sums of values and of the numbers of rows they are of, over all steps and processes.

    (torchmetrics' `MeanMetric`, whose names of the states these are, looks for NaN at every update, for which the host
    must wait; without that look, in release 1.9, it ignores the weights.)

    Args:
        shape: of the values; () for a number.
    """

    full_state_update = False
    mean_value: Tensor
    weight: Tensor

    def __init__(self, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.add_state("mean_value", torch.zeros(shape), dist_reduce_fx="sum")  # the weighted sum
        self.add_state("weight", torch.zeros(shape), dist_reduce_fx="sum")

    def add(self, total: Tensor, n: Tensor | int) -> None:
        """Add a step's sum over n rows."""
        self.mean_value += total.detach()
        self.weight += n


class RunningMean(RunningSums):
    """The mean of what each step gives, weighted by its number of rows, over all processes."""

    def update(self, value: Tensor, n: int) -> None:
        """Add a step's mean over n rows."""
        self.add(value * n, n)

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.mean_value / self.weight


class MeanOverTargets(RunningSums):
    """Each target's mean over the scans that have it, over all steps and processes, and of these the weighted mean.

    Args:
        target_weight: (targets,), of sum 1.
    """

    target_weight: Tensor

    def __init__(self, target_weight: Tensor) -> None:
        super().__init__((len(target_weight),) if len(target_weight) > 1 else ())  # as in checkpoints of one target
        self.register_buffer("target_weight", target_weight.clone(), persistent=False)

    def update(self, total: Tensor, n: Tensor) -> None:
        """Add a step's sums, and the numbers of scans in them: (targets,)."""
        self.add(total.reshape(self.mean_value.shape), n.reshape(self.weight.shape))

    def compute(self) -> Tensor:
        """The weighted mean over targets so far; a target without a scan adds nothing."""
        return (self.target_weight * self.mean_value / self.weight.clamp(min=1)).sum()
