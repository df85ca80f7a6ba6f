"""The voxel grids that volumes live on: the paper's field of view in MNI space, at any isotropic spacing.

The paper (Kaczmarek et al. 2025) transposes the 193×229×193 template grid (ICBM 152 2009c, 1 mm) to (z, y, x)
and crops `[10:160, 19:211, 1:]`, which leaves 150×192×192 voxels. A coarser grid covers the same box, centred.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuro_ssl.errors import InputError

TEMPLATE_ORIGIN_MM = (-96.0, -132.0, -78.0)  # world position of voxel (0, 0, 0) of the 09c grid, RAS
CROP_START_ZYX = (10, 19, 1)
CROP_SHAPE_ZYX = (150, 192, 192)


@dataclass(frozen=True)
class Grid:
    """An axis-aligned grid in MNI space; array axes are (z, y, x), each increasing towards S, A, R.

    Attributes:
        name: how users select it, such as `paper_1mm` or `4mm`.
        shape: voxels along (z, y, x).
        spacing_mm: isotropic voxel size.
        origin_mm: world position (x, y, z) in mm, RAS, of the centre of the first voxel.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: float
    origin_mm: tuple[float, float, float]

    @classmethod
    def named(cls, name: str) -> "Grid":
        """`paper_1mm` (the paper's crop); the same field of view as `2mm`, `3mm`, `1.5mm`, …; or one's own shape around
        the same centre, such as `128x160x128@1.25mm`, along (z, y, x).

        Raises:
            InputError: `name` is none of these.
        """
        match = re.fullmatch(r"(?:(\d+)x(\d+)x(\d+)@)?(\d+(?:\.\d+)?)mm", "1mm" if name == "paper_1mm" else name)
        own = [int(size) for size in match.groups()[:3] if size] if match else []
        if match is None or not 0.5 <= float(match[4]) <= 16 or any(not 8 <= size <= 512 for size in own):
            raise InputError(
                "grid must be paper_1mm, a spacing from 0.5mm to 16mm such as 4mm, or a shape along (z, y, x) of 8 to "
                f"512 voxels with a spacing, such as 128x160x128@1.25mm; got {name!r}"
            )
        spacing_mm = float(match[4])
        shape, origin = [], []
        for axis, (start, size, template_origin) in enumerate(
            zip(CROP_START_ZYX, CROP_SHAPE_ZYX, reversed(TEMPLATE_ORIGIN_MM), strict=True)
        ):
            voxels = own[axis] if own else math.ceil(size / spacing_mm)
            centre_mm = template_origin + start + (size - 1) / 2
            shape.append(voxels)
            origin.append(centre_mm - (voxels - 1) / 2 * spacing_mm)
        return cls(name, (shape[0], shape[1], shape[2]), spacing_mm, (origin[2], origin[1], origin[0]))

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4×4 matrix from (x, y, z) voxel indices to RAS mm: for an array transposed to (x, y, z)."""
        matrix = np.diag([self.spacing_mm, self.spacing_mm, self.spacing_mm, 1.0])
        matrix[:3, 3] = self.origin_mm
        return matrix
