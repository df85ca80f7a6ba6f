"""What `python -m neuro_ssl.explain` found, as a section: a figure of each map, and a viewer to look around in.

The viewer is NiiVue (niivue.com), whose script nilearn carries, so that a page works offline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import yaml
from pydantic import BaseModel, ValidationError

from neuro_ssl.errors import InputError
from neuro_ssl.reporting.panel import Panel, file_name
from neuro_ssl.reporting.section import Section
from neuro_ssl.reporting.viewer_volumes import FINEST_MM, SMOOTHING_MM, viewer_volumes

BUDGET_BYTES = 5_000_000  # of figures and volumes in a page, which is to stay below 15 MB: NiiVue alone takes 2.3
# Parts of matplotlib's maps, weak to strong, without the colours that vanish on a grey brain.
COLOURS = {"raises": ("RdBu_r", 0.66, 0.92), "lowers": ("RdBu_r", 0.34, 0.08), "unsigned": ("viridis", 0.4, 1.0)}
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
    command: str
    versions: dict[str, str]
    commit: str | None
    dirty: bool | None

    @property
    def title(self) -> str:
        """The method, in words."""
        return METHODS.get(self.method, self.method.replace("_", " ").capitalize())

    @property
    def of_whom(self) -> str:
        """The scans, in words."""
        scans = f"{self.n_scans} scan{'s' if self.n_scans > 1 else ''}"
        people = f"{self.n_subjects} {'people' if self.n_subjects > 1 else 'person'}"
        simulated = ", simulated" if self.simulated and "simulated" not in self.cohort else ""
        split = "all splits" if self.split == "all" else f"{self.split} split"
        return f"{scans} of {people} (cohort {self.cohort}{simulated}, {split}, grid {self.grid})"

    @property
    def key(self) -> tuple[object, ...]:
        """What two maps share that are looked at side by side."""
        return self.run, self.weights, self.output, self.cohort, self.grid, self.split, self.n_scans, self.n_subjects


@dataclass
class Explained:
    """The maps of one output over the same scans, one a method: their figures, and one viewer of all.

    Attributes:
        id: of the element in the page.
        folders: of the maps.
        maps: what they are.
        panels: the figures for which the page has room.
        viewer: what `templates/viewer.js` draws; None if the page has no room for it.
    """

    id: str
    folders: list[Path] = field(default_factory=list)
    maps: list[Explanation] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    viewer: dict[str, Any] | None = None

    def label(self, i: int) -> str:
        """Of a map: its method, and the digits of its folder if there are several by this method."""
        titles = [info.title for info in self.maps]
        several = titles.count(titles[i]) > 1
        return f"{titles[i]} ({self.folders[i].name.rpartition('-')[2]})" if several else titles[i]


def explanation_sections(folders: Sequence[Path], budget: int = BUDGET_BYTES) -> list[Section]:
    """The section of the page, if there is anything to explain.

    Args:
        folders: each with an `explanation.yaml` and what else `python -m neuro_ssl.explain` writes.
        budget: bytes that figures and volumes may take in the page; the section says what was left out.

    Returns:
        One section; none without explanations.

    Raises:
        InputError: a file is missing or not what it should be, or nilearn is too old to have NiiVue.
    """
    if not folders:
        return []
    groups: dict[tuple[object, ...], Explained] = {}
    read = [(folder, _info(folder / "explanation.yaml")) for folder in folders]
    for folder, info in sorted(read, key=lambda pair: ([*METHODS, pair[1].method].index(pair[1].method), pair[0])):
        group = groups.setdefault(info.key, Explained(f"explained-{len(groups) + 1}"))
        group.folders.append(folder)
        group.maps.append(info)
    explained = list(groups.values())
    left_out = _fill(explained, budget)
    infos = [info for group in explained for info in group.maps]
    viewers = any(group.viewer for group in explained)
    return [
        Section(
            "explanations",
            "What the models look at",
            {
                "explained": explained,
                "left_out": left_out,
                "finest_mm": FINEST_MM,
                "smoothing_mm": SMOOTHING_MM,
                "colours": {name: _colours(*part) for name, part in COLOURS.items()},
                "niivue": niivue() if viewers else None,
            },
            panels=[panel for group in explained for panel in group.panels],
            links=[(group.id, f"{group.maps[0].output} ({group.maps[0].run})") for group in explained],
            warnings=_warnings(infos),
            simulated=sorted({info.cohort for info in infos if info.simulated}),
            sources=[f"{len(infos)} explanation{'s' if len(infos) > 1 else ''}"],
        )
    ]


@cache
def niivue() -> str:
    """NiiVue's script.

    Raises:
        InputError: nilearn is too old to have it.
    """
    file = resources.files("nilearn") / "_assets/js/niivue.umd.js"
    if not file.is_file():
        raise InputError("nilearn lacks NiiVue, which shows explanations in 3D: pip install 'nilearn>=0.14.1'")
    return file.read_text(encoding="utf-8").replace("</script", r"<\/script")


def _fill(explained: list[Explained], budget: int) -> list[str]:
    """Add figures and then, with the bytes that are left, viewers; says for what there was no room."""
    left_out = []
    for group in explained:
        for i, (folder, info) in enumerate(zip(group.folders, group.maps, strict=True)):
            picture = _picture(folder / "figure.png")
            if 4 * len(picture) // 3 > budget:
                left_out.append(f"{group.label(i)}, {info.output}: {folder / 'figure.png'}")
                continue
            budget -= 4 * len(picture) // 3
            name = file_name("explanation", info.run, folder.name)
            alt = f"{info.title}: what raises or lowers {info.output}; mean over {info.of_whom}"
            group.panels.append(Panel(name, alt, _caption(group.label(i), info), picture))
    for group in explained:
        maps = []
        for i, (folder, info) in enumerate(zip(group.folders, group.maps, strict=True)):
            volume, background = viewer_volumes(folder)
            unit = info.unit if info.signed else ""
            maps.append(volume | {"title": group.label(i), "signed": info.signed, "unit": unit})
        size = len(background) + sum(len(one["data"]) for one in maps)
        if size > budget:
            left_out.append(f"{group.maps[0].output} in 3D: {', '.join(str(f / 'mean.nii.gz') for f in group.folders)}")
        else:
            budget -= size
            group.viewer = {"background": background, "maps": maps}
    return left_out


def _caption(label: str, info: Explanation) -> str:
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in info.settings.items())
    lines = [f"{label}{f' ({settings})' if settings else ''}."]
    if info.completeness_error is not None:
        lines.append(f"Attributions add up to what they explain but for {info.completeness_error:.1%}.")
    if info.sanity_check:
        likeness = info.sanity_check.likeness["input"]
        lines.append(
            f"Rank correlation with the map of the untrained network: {likeness:.2f} (1 would be the same map)."
        )
    return " ".join(lines)


def _warnings(infos: list[Explanation]) -> list[str]:
    lines = []
    if single := sorted({info.run for info in infos if info.n_subjects == 1}):
        lines.append(
            f"The explanations of {', '.join(single)} show the brain of a single person: pass this page on only where "
            "you may pass on the scan."
        )
    if dirty := sorted({info.run for info in infos if info.dirty}):
        lines.append(
            f"Explained with uncommitted changes, so that the commit doesn't identify the code: {', '.join(dirty)}."
        )
    return lines


def _colours(name: str, weak: float, strong: float) -> list[list[int]]:
    """Seventeen colours as red, green, blue of 0 to 255."""
    colours = mpl.colormaps[name](np.linspace(weak, strong, 17), bytes=True)
    return [[int(value) for value in colour[:3]] for colour in colours]


def _info(file: Path) -> Explanation:
    try:
        return Explanation.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: {where}: {first['msg']}; explain again, or delete its folder") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: unreadable ({error}); explain again, or delete its folder") from error


def _picture(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: unreadable ({error}); explain again, or delete its folder") from error
