"""A T1w scan of one subject at one session: contrast, lesion, shape, then what the scanner adds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage, special
from scipy.spatial.transform import Rotation

from neuro_ssl.simulation.atlas import Array, Atlas
from neuro_ssl.simulation.cohort import Stream, Subject, random_stream
from neuro_ssl.simulation.deformation import atlas_coordinates, random_field
from neuro_ssl.simulation.effects import TEACHING, Effects
from neuro_ssl.simulation.phenotype import Phenotype, phenotype
from neuro_ssl.simulation.scanner import Scanner

LESION_INTENSITY = 0.35  # white matter is 1, fluid about 0.25: an old infarct


@dataclass(frozen=True)
class Anatomy:
    """The head of one subject at one session, before any scanner.

    Attributes:
        traits: sizes of the planted effects.
        shift_mm: where the voxel grid lies on the head, (x, y, z).
        coordinates: (3, x, y, z), the atlas voxel that each voxel of the scan shows.
        texture: the brain's own intensity pattern, on the atlas's grid.
        lesion: of a stroke, on the atlas's grid, in 0..1; None without.
    """

    traits: Phenotype
    shift_mm: npt.NDArray[np.float64]
    coordinates: Array
    texture: Array
    lesion: Array | None

    @classmethod
    def of(cls, atlas: Atlas, subject: Subject, session: int, effects: Effects) -> "Anatomy":
        """The same for the same arguments; `session` counts from 0."""
        traits = phenotype(subject, session, effects)
        shift_mm = effects.grid_shift_mm * random_stream(
            subject.seed, Stream.PLANNING, subject.index, session
        ).standard_normal(3)
        rng = random_stream(subject.seed, Stream.ANATOMY, subject.index)
        coordinates = atlas_coordinates(atlas, traits, effects, rng, shift_mm)
        texture = random_field(atlas.brain.shape, 7 / atlas.spacing_mm, rng)
        lesion = lesion_map(atlas, traits.lesion_ml / traits.head_scale**3, rng) if traits.lesion_ml else None
        return cls(traits, shift_mm, coordinates, texture, lesion)


def simulate_scan(
    atlas: Atlas, subject: Subject, session: int, effects: Effects = TEACHING
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """The T1w image (int16) and brain mask (uint8) of `subject` at `session` (from 0), as the scanner stores them."""
    scanner = Scanner.of(subject.sessions[session], subject.seed, effects)
    anatomy = Anatomy.of(atlas, subject, session, effects)
    template, where = _template_image(atlas, anatomy, scanner, effects), anatomy.coordinates
    image = ndimage.map_coordinates(template, where, order=effects.interpolation, mode="nearest")
    mask = ndimage.map_coordinates(atlas.brain.astype(np.uint8), where, order=0, mode="nearest")

    affine, rng = in_scanner(atlas, subject, session, anatomy.shift_mm)
    image *= np.exp(scanner.bias * random_field(image.shape, 70 / atlas.spacing_mm, rng))
    # Magnitude of a complex signal: Rician noise, which lifts the air above zero.
    noise = scanner.noise * rng.standard_normal((2, *image.shape), dtype=np.float32)
    image = np.hypot(image + noise[0], noise[1]) * (scanner.scale * np.exp(rng.normal(0, 0.1)))
    return (
        as_stored(np.minimum(image, np.iinfo(np.int16).max).round().astype(np.int16), affine, scanner.orientation),
        as_stored(mask, affine, scanner.orientation),
    )


def in_scanner(
    atlas: Atlas, subject: Subject, session: int, shift_mm: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], np.random.Generator]:
    """From a scan's voxels (x, y, z) to RAS mm, and the source of the session's bias field and noise.

    Args:
        atlas: whose grid is the image's.
        subject: who is scanned.
        session: which time, from 0.
        shift_mm: where the voxel grid lies on the head.
    """
    rng = random_stream(subject.seed, Stream.SESSION, subject.index, session)
    return _position(rng) @ _translation(shift_mm) @ atlas.affine, rng


def lesion_map(atlas: Atlas, lesion_ml: float, rng: np.random.Generator) -> Array:
    """A lesion in the white and deep grey matter of one hemisphere, (x, y, z) in 0..1.

    It grows around a random point over the nearest tissue until `lesion_ml` are full; a random field bends
    "nearest", so that it isn't a ball.
    """
    x, y, z = atlas.axes_mm
    side = rng.choice([-1, 1])
    tissue = atlas.gm + atlas.wm
    hemisphere = (tissue > 0.5) & (x * side > 3) & (atlas.depth_mm > 4)
    territory = np.argwhere(hemisphere & (atlas.depth_mm > 18) & (z > -5) & (x * side > 12))
    seed = territory[rng.integers(len(territory))]
    distance_mm = np.sqrt(sum((axis - axis.flat[at]) ** 2 for axis, at in zip((x, y, z), seed, strict=True)))
    distance_mm = distance_mm * np.exp(0.25 * random_field(atlas.brain.shape, 14 / atlas.spacing_mm, rng))
    candidates = distance_mm[hemisphere]
    n_voxels = min(round(lesion_ml * 1000 / atlas.spacing_mm**3), candidates.size - 1)
    edge_mm = np.partition(candidates, n_voxels)[n_voxels]
    return np.asarray(np.clip((edge_mm - distance_mm) / 2 + 0.5, 0, 1) * hemisphere, dtype=np.float32)


def _template_image(atlas: Atlas, anatomy: Anatomy, scanner: Scanner, effects: Effects) -> Array:
    """The noiseless image, white matter 1, in the atlas's shape and the subject's contrast and tissue."""
    traits = anatomy.traits
    widening_mm = traits.cortex_mm + traits.medial_temporal_mm * atlas.medial_temporal
    kept = special.expit((atlas.cortex_mm - widening_mm) / 0.6)
    kept *= special.expit((atlas.horn_axis_mm - traits.horn_mm) / 0.6)
    gm, wm = atlas.gm * kept, atlas.wm * kept
    inside = np.clip(atlas.depth_mm / atlas.spacing_mm + 0.5, 0, 1)
    csf = np.clip(inside - gm - wm, 0, 1)
    if effects.sharpness != 1:
        csf, gm, wm = _sharpened((csf, gm, wm), effects.sharpness)
    image = scanner.csf * csf + scanner.gm * gm + wm + atlas.detail * kept + scanner.scalp * atlas.non_brain
    image *= 1 + effects.texture * anatomy.texture
    if anatomy.lesion is not None:
        image += anatomy.lesion * (LESION_INTENSITY - image)
    return np.asarray(np.maximum(image, 0), dtype=np.float32)


def _sharpened(classes: Sequence[npt.NDArray[Any]], exponent: float) -> list[npt.NDArray[Any]]:
    """Shares of tissue classes with crisper borders between them; their sum stays what it was."""
    powers = [share**exponent for share in classes]
    factor = sum(classes) / np.maximum(sum(powers), 1e-6)
    return [power * factor for power in powers]


def _translation(shift_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = shift_mm
    return matrix


def _position(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """How the head lies in the scanner. The field of view is planned along the head, so the affine alone says."""
    position = np.eye(4)
    position[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, [2, 1.5, 1.5]), degrees=True).as_matrix()
    position[:3, 3] = rng.normal(0, [3, 6, 6])
    return position


def as_stored(array: npt.NDArray[Any], affine: npt.NDArray[np.float64], orientation: str) -> nib.Nifti1Image:
    """An image whose array axes are those of `orientation`; nibabel's functions have no types, hence `Any`."""
    image: Any = nib.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    orientations: Any = nib.orientations
    change = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(orientation))
    reoriented: nib.Nifti1Image = image.as_reoriented(change)
    return reoriented
