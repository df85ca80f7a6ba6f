"""What all attribution methods have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn


class Method(ABC):
    """An attribution method.

    Attributes:
        signed: whether attributions may be negative, which lowers the output.
        complete: whether they add up to the difference between the outputs of input and baseline.
        uses_baseline: whether the baseline matters.
    """

    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    uses_baseline: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, model: nn.Module, inputs: Tensor, baseline: Tensor, *, spacing_mm: float, batch_size: int
    ) -> Tensor:
        """Attributions, of the shape of the inputs; see `attribution` for the arguments."""

    def check(  # noqa: B027, most methods take any model
        self, model: nn.Module, shape: Sequence[int], spacing_mm: float
    ) -> None:
        """Refuse a model that this method cannot explain, before anything is computed.

        Args:
            model: see `attribution`.
            shape: of a volume, (z, y, x).
            spacing_mm: of its voxels.

        Raises:
            InputError: saying why, and what can be done instead.
        """

    def unit(self, spacing_mm: float) -> str:
        """What an attribution belongs to, given the size of voxels."""
        return f"voxel of {spacing_mm:g} mm"


def parts_of(inputs: Tensor, batch_size: int) -> list[Tensor]:
    """Some inputs at a time, free to carry gradients."""
    return [inputs[start : start + batch_size].detach().clone() for start in range(0, len(inputs), batch_size)]
