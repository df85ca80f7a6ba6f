"""Means over steps that never make the host wait for the device."""

import torch
from torch import Tensor
from torchmetrics import Metric


class RunningMean(Metric):
    """The mean of what each step gives, weighted by its number of rows, over all processes.

    (torchmetrics' `MeanMetric` looks for NaN at every update, for which the host must wait; without that look, in
    release 1.9, it ignores the weights.)
    """

    full_state_update = False
    mean_value: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("mean_value", torch.tensor(0.0), dist_reduce_fx="sum")  # the weighted sum; MeanMetric's names
        self.add_state("weight", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, n: int) -> None:
        """Add a step's mean over n rows."""
        self.mean_value += value.detach() * n
        self.weight += n

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.mean_value / self.weight


class MeanOverTargets(Metric):
    """Each target's mean over the scans that have it, over all steps and processes, and of these the weighted mean.

    Args:
        weight: (targets,), of sum 1.
    """

    full_state_update = False
    total: Tensor
    count: Tensor
    target_weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("target_weight", weight.clone(), persistent=False)
        self.add_state("total", torch.zeros(len(weight)), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(len(weight)), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Add a step's sums, and the numbers of scans in them: (targets,)."""
        self.total += total.detach()
        self.count += count

    def compute(self) -> Tensor:
        """The weighted mean over targets so far; a target without a scan adds nothing."""
        return (self.target_weight * self.total / self.count.clamp(min=1)).sum()
