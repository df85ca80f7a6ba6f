"""What `python -m neuro_ssl.explain` left in a folder, read and checked."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from neuro_ssl.errors import InputError
from neuro_ssl.reporting.explanations.volumes import viewer_volumes

METHODS = {
    "integrated_gradients": "Integrated gradients",
    "gradient_x_input": "Gradient × input",
    "occlusion": "Occlusion",
    "grad_cam": "Grad-CAM",
}


class SanityCheck(BaseModel):
    """How much maps are like those of an untrained network, see `explaining.sanity`."""

    likeness: dict[str, float]


class Explanation(BaseModel):
    """Content of `explanation.yaml`."""

    method: str
    settings: dict[str, Any]
    output: str
    unit: str
    signed: bool
    run: str
    weights: str
    task: str | None
    cohort: str
    simulated: bool
    grid: str
    split: str
    n_scans: int
    n_subjects: int
    completeness_error: float | None
    sanity_check: SanityCheck | None
    outside_brain: float
    command: str
    versions: dict[str, str]
    commit: str | None
    dirty: bool | None

    @property
    def title(self) -> str:
        """The method, in words."""
        return METHODS.get(self.method, self.method.replace("_", " ").capitalize())

    @property
    def shown_command(self) -> str:
        """The command without the ids of single scans that it may name."""
        return re.sub(r"(?<=\bscans=)\[[^\]]*\]", "[…]", self.command)

    @property
    def of_whom(self) -> str:
        """The scans, in words."""
        scans = f"{self.n_scans} scan{'s' if self.n_scans > 1 else ''}"
        people = f"{self.n_subjects} {'people' if self.n_subjects > 1 else 'person'}"
        simulated = ", simulated" if self.simulated and "simulated" not in self.cohort else ""
        split = {"all": "all splits", "chosen": "chosen by hand"}.get(self.split, f"{self.split} split")
        return f"{scans} of {people} (cohort {self.cohort}{simulated}, {split}, grid {self.grid})"


@dataclass(frozen=True)
class Map:
    """One explanation.

    Attributes:
        folder: with all its files.
        info: of `explanation.yaml`.
        figure: content of `figure.png`.
        volume: the mean map, see `viewer_volumes`.
        background: the brain below it, see there.
    """

    folder: Path
    info: Explanation
    figure: bytes
    volume: dict[str, Any]
    background: str

    @property
    def key(self) -> tuple[object, ...]:
        """What two maps share that are looked at side by side."""
        info = self.info
        return info.run, info.weights, info.output, info.cohort, info.grid, info.split, info.n_scans, info.n_subjects

    @property
    def rank(self) -> tuple[int, Path]:
        """Its place in the page: by method."""
        methods = [*METHODS, self.info.method]
        return methods.index(self.info.method), self.folder


def read_map(folder: Path) -> Map:
    """Read an explanation.

    Raises:
        InputError: a file is missing, or not what it should be.
    """
    info = _info(folder / "explanation.yaml")
    try:
        figure = (folder / "figure.png").read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder / 'figure.png'}: unreadable ({error}); explain again, or delete the folder"
        ) from error
    return Map(folder, info, figure, *viewer_volumes(folder))


def _info(file: Path) -> Explanation:
    try:
        return Explanation.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: {where}: {first['msg']}; explain again, or delete the folder") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: unreadable ({error}); explain again, or delete the folder") from error
