"""A mean over steps that never makes the host wait for the device."""

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
