"""What an encoder expects of a volume, beyond the package's own (z, y, x) in MNI space: grid and intensity."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid

# How brain voxels (> 0) and background (0) of a volume become an encoder's input; `views.intensity.normalise` does it.
#   z_score_brain   mean 0 and variance 1 over the brain, background exactly 0: this package's and the paper's
#   z_score_volume  mean 0 and variance 1 over all voxels, background included
#   min_max         0 to 1 over all voxels
Intensity = Literal["z_score_brain", "z_score_volume", "min_max"]


@dataclass(frozen=True)
class Contract:
    """What others' weights expect of a volume of a store.

    Attributes:
        grid: name of the grid to preprocess to, see `Grid.named`.
        shape: voxels along (z, y, x) that volumes must have; None for any.
        spacing_mm: voxel size that volumes must have; None for any.
        intensity: how voxels enter the encoder.
        preprocessing: what its authors did to their scans, in words, and how a store's volumes differ.
    """

    grid: str
    shape: tuple[int, int, int] | None
    spacing_mm: float | None
    intensity: Intensity
    preprocessing: str

    def check(self, grid: Grid, weights: object) -> None:
        """Refuse volumes on a grid that the weights were not made for; nothing is resampled behind one's back.

        Args:
            grid: of the volumes.
            weights: name of the weights, for the message.

        Raises:
            InputError: naming both grids, and the one to preprocess to.
        """
        fits = self.shape in (None, grid.shape) and self.spacing_mm in (None, grid.spacing_mm)
        if not fits:
            raise InputError(
                f"weights={weights} expect volumes of {_described(self.shape, self.spacing_mm)}, these have "
                f"{_described(grid.shape, grid.spacing_mm)} (grid={grid.name}): preprocess the scans with "
                f"grid={self.grid}, and name that store by grid={self.grid}"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain containers, which `of_json` reads."""
        return asdict(self)

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Contract":
        """The contract that these plain containers describe.

        Raises:
            InputError: an intensity or a grid that this version doesn't know.
            KeyError, TypeError: something else is missing or of another kind.
        """
        if content["intensity"] not in get_args(Intensity):
            known = ", ".join(get_args(Intensity))
            raise InputError(f"input.intensity must be one of {known}, got {content['intensity']!r}")
        shape = content["shape"]
        grid = Grid.named(content["grid"]).name
        return cls(**{**content, "grid": grid, "shape": None if shape is None else tuple(shape)})


def _described(shape: tuple[int, int, int] | None, spacing_mm: float | None) -> str:
    voxels = "any shape" if shape is None else f"{'×'.join(map(str, shape))} voxels along (z, y, x)"
    return f"{voxels} at {'any spacing' if spacing_mm is None else f'{spacing_mm:g} mm'}"
