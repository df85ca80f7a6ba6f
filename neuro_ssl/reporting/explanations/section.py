"""What `python -m neuro_ssl.explain` found, as a section: a figure of each map, and a viewer to look around in.

The viewer is NiiVue (niivue.com), whose script nilearn carries, so that a page works offline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib as mpl
import numpy as np

from neuro_ssl.errors import InputError
from neuro_ssl.explaining.display import SMOOTHING_MM
from neuro_ssl.reporting.explanations.records import Explanation, Map, read_map
from neuro_ssl.reporting.explanations.volumes import FINEST_MM
from neuro_ssl.reporting.panel import Panel, file_name
from neuro_ssl.reporting.section import Section

BUDGET_BYTES = 6_000_000  # of figures and volumes in a page, which is to stay below 15 MB: NiiVue alone takes 2.3
NOTEWORTHY, MOSTLY = 0.01, 0.5  # shares of a map outside the brain: for its caption, and for the warnings
# Parts of matplotlib's maps, weak to strong, without the colours that vanish on a grey brain.
COLOURS = {"raises": ("RdBu_r", 0.66, 0.92), "lowers": ("RdBu_r", 0.34, 0.08), "unsigned": ("viridis", 0.4, 1.0)}


@dataclass
class Explained:
    """The maps of one output over the same scans, one a method: their figures, and one viewer of all.

    Attributes:
        id: of the element in the page.
        maps: of them all.
        panels: the figures for which the page has room.
        viewer: what `templates/viewer.js` draws; None if the page has no room for it.
    """

    id: str
    maps: list[Map] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    viewer: dict[str, Any] | None = None

    def label(self, one: Map) -> str:
        """A map's method, and the digits of its folder if there are several by this method."""
        title = one.info.title
        several = [other.info.title for other in self.maps].count(title) > 1
        return f"{title} ({one.folder.name.rpartition('-')[2]})" if several else title


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
    maps = sorted(map(read_map, folders), key=lambda one: one.rank)
    groups: dict[tuple[object, ...], Explained] = {}
    for one in maps:
        groups.setdefault(one.key, Explained(f"explained-{len(groups) + 1}")).maps.append(one)
    explained = list(groups.values())
    left_out = _fill(explained, budget)
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
            links=[(group.id, _heading(group.maps[0].info)) for group in explained],
            warnings=_warnings(maps),
            simulated=sorted({one.info.cohort for one in maps if one.info.simulated}),
            real=sorted({one.info.cohort for one in maps if not one.info.simulated}),
            sources=[f"{len(maps)} explanation{'s' if len(maps) > 1 else ''}"],
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
        for one in group.maps:
            size = 4 * len(one.figure) // 3  # in base64
            if size > budget:
                left_out.append(f"{group.label(one)}, {one.info.output}: {one.folder / 'figure.png'}")
                continue
            budget -= size
            name = file_name("explanation", one.info.run, one.folder.name)
            alt = f"{one.info.title}: what raises or lowers {one.info.output}; mean over {one.info.of_whom}"
            group.panels.append(Panel(name, alt, _caption(group.label(one), one), one.figure))
    for group in explained:
        background = group.maps[0].background
        size = len(background) + sum(len(one.volume["data"]) for one in group.maps)
        if size > budget:
            files = ", ".join(str(one.folder / "mean.nii.gz") for one in group.maps)
            left_out.append(f"{group.maps[0].info.output} in 3D: {files}")
            continue
        budget -= size
        shown = [
            {"title": group.label(one), "signed": one.info.signed, "unit": one.info.unit if one.info.signed else ""}
            for one in group.maps
        ]
        group.viewer = {
            "background": background,
            "maps": [one.volume | words for one, words in zip(group.maps, shown, strict=True)],
        }
    return left_out


def _heading(info: Explanation) -> str:
    short = shorten(info.output, 50, placeholder=" …")
    return f"{short[0].upper()}{short[1:]} ({info.run})"


def _caption(label: str, one: Map) -> str:
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in one.info.settings.items())
    lines = [f"{label}{f' ({settings})' if settings else ''}."]
    if one.info.outside_brain > NOTEWORTHY:
        lines.append(f"{100 * one.info.outside_brain:.0f} % of the attribution lies outside the brain.")
    if one.info.completeness_error is not None:
        lines.append(f"Attributions add up to what they explain but for {100 * one.info.completeness_error:.1f} %.")
    if one.info.sanity_check:
        likeness = one.info.sanity_check.likeness["input"]
        if np.isnan(likeness):
            lines.append("The map of the untrained network is empty, so that there is nothing to compare with.")
        else:
            lines.append(f"Rank correlation with the map of the untrained network: {likeness:.2f} (1: the same).")
    return " ".join(lines)


def _warnings(maps: list[Map]) -> list[str]:
    lines = [
        f"{one.info.title} of {one.info.run} ({one.info.output}) lies outside the brain for "
        f"{100 * one.info.outside_brain:.0f} %: it says little about brains."
        for one in maps
        if one.info.outside_brain > MOSTLY
    ]
    if single := sorted({one.info.run for one in maps if one.info.n_subjects == 1}):
        lines.append(
            f"The explanations of {', '.join(single)} show the brain of a single person: pass this page on only where "
            "you may pass on the scan."
        )
    if dirty := sorted({one.info.run for one in maps if one.info.dirty}):
        lines.append(
            f"Explained with uncommitted changes, so that the commit doesn't identify the code: {', '.join(dirty)}."
        )
    return lines


def _colours(name: str, weak: float, strong: float) -> list[list[int]]:
    """Seventeen colours as red, green, blue of 0 to 255."""
    colours = mpl.colormaps[name](np.linspace(weak, strong, 17), bytes=True)
    return [[int(value) for value in colour[:3]] for colour in colours]
