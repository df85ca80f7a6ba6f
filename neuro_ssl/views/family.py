"""What the families of views have in common."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from neuro_ssl.errors import InputError


class Views(nn.Module, ABC):
    """One random view of each volume of a batch, made where the batch is, in float32 whatever the precision around."""

    def forward(self, volume: Tensor, keys: Tensor) -> Tensor:
        """(batch, 1, z, y, x), brain > 0, and keys (batch, 2) → standardised views of the same shape, float32."""
        with torch.no_grad(), torch.autocast(volume.device.type, enabled=False):
            return self.make(volume, keys, batched=volume.device.type != "cpu")

    @abstractmethod
    def make(self, volume: Tensor, keys: Tensor, batched: bool) -> Tensor:
        """The views, by one of two ways that give the same.

        Args:
            volume: (batch, 1, z, y, x), brain > 0.
            keys: (batch, 2), see `random.view_keys`.
            batched: all samples at once and without a look at any value, since an accelerator would have to finish
                what it is at before it could answer; else one sample after another, without what isn't needed.
        """


def check_share(name: str, value: float) -> None:
    """Raise InputError unless it is a share or a probability."""
    if not 0 <= value <= 1:
        raise InputError(f"views.{name} must be from 0 to 1, got {value}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise InputError unless it is."""
    if not value >= least:
        raise InputError(f"views.{name} must be at least {least:g}, got {value}")


def check_range(name: str, value: tuple[float, float], low: float, high: float = float("inf")) -> None:
    """Raise InputError unless these are two ascending numbers within [low, high]."""
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        bounds = f"from {low:g} on" if high == float("inf") else f"from {low:g} to {high:g}"
        raise InputError(f"views.{name} must be two ascending numbers {bounds}, got {list(value)}")
