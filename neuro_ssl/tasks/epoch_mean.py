"""The mean of a loss or a score over the scans of an epoch."""

import torch
from torch import Tensor
from torchmetrics import MeanMetric


class EpochMean(MeanMetric):
    """torchmetrics' mean, without making the host wait for the device: it looks at no value, and copies none there."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")  # `callbacks.Health` looks for NaN, at logging intervals

    def update(self, mean: Tensor, n: int) -> None:  # type: ignore[override]
        """Add a batch.

        Args:
            mean: a scalar, of the batch.
            n: scans that it is the mean of.
        """
        super().update(mean.detach(), torch.full((), n, dtype=torch.float32, device=mean.device))
