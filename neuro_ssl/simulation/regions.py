"""Where the planted effects are in a simulated scan, so that what a model looks at can be held against what changed.

The regions are places of the atlas, carried to the subject as its image is. They say where an effect acts, not how far
it went in this subject: only that they move and shrink with the tissue that they are in.

- `ventricles`: the lateral and third ventricles, and the tissue within 6 mm of their walls, which moves most. For age.
- `cortex`: what sulci can reach between 20 and 90, from the brain's surface inwards. For age.
- `medial_temporal`: within 13 mm of the axes of the hippocampi: these, the temporal horns beside them and the
  sulci around. For Alzheimer's disease.
- `lesion`: of a stroke; nothing where there is none.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from neuro_ssl.errors import InputError
from neuro_ssl.simulation.atlas import Atlas, load_atlas
from neuro_ssl.simulation.bids import RECORD, scan_names
from neuro_ssl.simulation.cohort import Subject, plan_cohort
from neuro_ssl.simulation.dataset import SIMULATION_VERSION
from neuro_ssl.simulation.effects import TEACHING, Effects
from neuro_ssl.simulation.image import Anatomy, as_stored, in_scanner
from neuro_ssl.simulation.scanner import Scanner

REGIONS = ("ventricles", "cortex", "medial_temporal", "lesion")
WALL_MM = 6.0  # where the push away from the ventricles is at its full length, see `atlas`
MEDIAL_TEMPORAL_WEIGHT = 0.5  # at 13 mm


def planted_regions(
    atlas: Atlas, subject: Subject, session: int, effects: Effects = TEACHING
) -> dict[str, nib.Nifti1Image]:
    """Masks (uint8) of `REGIONS` on the grid of the image that `simulate_scan` makes of the same arguments."""
    anatomy = Anatomy.of(atlas, subject, session, effects)
    youngest, oldest = effects.cortex_start_mm, effects.cortex_start_mm + effects.cortex_mm
    lesion = np.zeros(atlas.brain.shape, np.float32) if anatomy.lesion is None else anatomy.lesion
    # Of each a map that is positive inside: a threshold after the interpolation leaves a smooth border.
    maps = {
        "ventricles": WALL_MM - atlas.outside_ventricles_mm,
        "cortex": np.minimum(atlas.cortex_mm - youngest, oldest - atlas.cortex_mm),
        "medial_temporal": atlas.medial_temporal - MEDIAL_TEMPORAL_WEIGHT,
        "lesion": lesion - 0.5,
    }
    brain = ndimage.map_coordinates(atlas.brain.astype(np.uint8), anatomy.coordinates, order=0, mode="nearest") > 0
    affine, _ = in_scanner(atlas, subject, session, anatomy.shift_mm)
    orientation = Scanner.of(subject.sessions[session], subject.seed, effects).orientation
    masks = {}
    for name, inside in maps.items():
        mask = (ndimage.map_coordinates(inside, anatomy.coordinates, order=1, mode="nearest") > 0) & brain
        masks[name] = as_stored(mask.astype(np.uint8), affine, orientation)
    return masks


@dataclass(frozen=True)
class PlantedCohort:
    """A cohort that `neuro_ssl.simulate` wrote, to ask for the regions of its scans.

    Attributes:
        root: folder of the dataset.
        scans: subject and session (from 0) by the image's path within it.
        atlas: that its subjects derive from.
        effects: sizes of what is planted.
    """

    root: Path
    scans: dict[str, tuple[Subject, int]]
    atlas: Atlas
    effects: Effects

    @classmethod
    def open(cls, root: str | Path) -> "PlantedCohort":
        """Read the settings that the cohort was made with.

        Args:
            root: folder of the dataset.

        Raises:
            InputError: no simulated cohort, a damaged record, or a cohort of another version of the simulation.
        """
        record = Path(root) / RECORD
        try:
            settings = dict(json.loads(record.read_text(encoding="utf-8")))
            version, spacing_mm = settings.pop("simulation_version"), settings.pop("spacing_mm")
            effects = Effects(**settings.pop("effects"))
            subjects = plan_cohort(**settings)
        except FileNotFoundError as error:
            raise InputError(f"{root} holds no {RECORD}: it is no cohort of python -m neuro_ssl.simulate") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{record}: damaged ({error!r}); simulate the cohort again") from error
        if version != SIMULATION_VERSION:
            raise InputError(
                f"{record}: simulation_version {version}, and this version of neuro_ssl makes {SIMULATION_VERSION}; "
                "simulate the cohort again"
            )
        scans = {scan_names(s, number)[0]: (s, number) for s in subjects for number in range(len(s.sessions))}
        return cls(Path(root), scans, load_atlas(spacing_mm), effects)

    def regions(self, image_path: str | Path) -> dict[str, nib.Nifti1Image]:
        """The planted regions of one scan, see `planted_regions`.

        Args:
            image_path: of the T1w image, as in a manifest.

        Raises:
            InputError: no image of this cohort.
        """
        path, root = Path(image_path).resolve(), self.root.resolve()
        scan = self.scans.get(path.relative_to(root).as_posix()) if path.is_relative_to(root) else None
        if scan is None:
            raise InputError(f"{image_path} is no scan of the simulated cohort in {self.root}")
        return planted_regions(self.atlas, *scan, self.effects)
