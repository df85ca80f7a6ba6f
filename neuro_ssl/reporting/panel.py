"""A figure of the report: drawn once with matplotlib, shown in the page as SVG that answers to a pointer, and written
beside the page as it is for papers.

What a mark says when it is pointed at is noted on its artist with `annotate`. In the page's SVG each noted point has an
invisible circle with the text in `data-tip`, and each area the text itself; the script of the page shows the nearest.
Colours are Okabe & Ito's (jfly.uni-koeln.de/color), which colour-blind readers can tell apart.
"""

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer, Container, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from neuro_ssl.files import appearing

GREY = "#6b6b6b"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 10,
    "legend.edgecolor": "none",
    "legend.fontsize": 8.5,
    "svg.hashsalt": "neuro_ssl",  # the same figure is the same text
    "text.parse_math": False,  # names of models, sites and classes may have dollars
}
STATIC = ("svg", "png", "pdf")
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SVG_DPI = 72  # matplotlib's SVG back end draws in points


@dataclass(frozen=True)
class Note:
    """What an artist says: a text for each point, or one for the whole; and what it is highlighted with."""

    tips: Sequence[str]
    series: str | None


_notes: WeakKeyDictionary[Artist, Note] = WeakKeyDictionary()


def annotate(artist: Artist | Container, *, tips: Sequence[str] | None = None, series: str | None = None) -> None:
    """Note what an artist says when it is pointed at. No ids of people or scans: pages are passed on.

    Args:
        artist: a line, a scatter's collection, a patch or another area, or what `errorbar` and `bar` return.
        tips: one text for each point of a line (with a marker or without) or scatter, or for each bar; or a single one
            for the whole.
        series: artists of one series are highlighted together, and with the entry of the legend that bears this name
            or the label of one of them.

    Raises:
        ValueError: not as many tips as points.
    """
    tips = list(tips or ())
    if isinstance(artist, BarContainer):
        for bar, tip in zip(artist.patches, tips or [""] * len(artist.patches), strict=True):
            annotate(bar, tips=[tip] if tip else None, series=series)
    elif isinstance(artist, ErrorbarContainer):
        line, caps, bars = artist.lines
        for part in (*caps, *bars):
            annotate(part, series=series)
        if line is not None:
            line.set_label(artist.get_label())
            annotate(line, tips=tips, series=series)
    elif isinstance(artist, Artist):
        n_points = len(_points(artist)) or 1
        if len(tips) not in (0, 1, n_points):
            raise ValueError(f"{len(tips)} tips for {n_points} points of {artist}: give one for each, or one")
        _notes[artist] = Note(tips, series)
    else:
        raise TypeError(f"no tips for {type(artist).__name__}: annotate its artists")


@dataclass(eq=False)
class Panel:
    """One figure.

    Attributes:
        name: of its files: lower-case words joined by hyphens. The page numbers those that are not unique.
        alt: text for those who can't see it.
        caption: the line below.
        image: a matplotlib figure, or a PNG file's content.
    """

    name: str
    alt: str
    caption: str
    image: Figure | bytes

    @property
    def html(self) -> str:
        """An `svg` or `img` element."""
        if isinstance(self.image, bytes):
            return (
                f'<img src="data:image/png;base64,{base64.b64encode(self.image).decode()}" alt="{_quoted(self.alt)}">'
            )
        svg, noted = self._drawn
        return _interactive(svg, noted, self.name, self.alt)

    def files(self, formats: Sequence[str]) -> list[str]:
        """Names of the files that `write` makes: one a format, or a PNG alone where it is an image of voxels."""
        suffixes = formats if isinstance(self.image, Figure) else ("png",) if formats else ()
        return [f"{self.name}.{suffix}" for suffix in suffixes]

    def write(self, folder: Path, formats: Sequence[str] = STATIC) -> None:
        """Write the figure as files for papers.

        Args:
            folder: made if need be.
            formats: any of `STATIC`.
        """
        for name in self.files(formats):
            suffix = name.rpartition(".")[2]
            if isinstance(self.image, bytes):
                content = self.image
            elif suffix == "svg":
                content = re.sub(r' id="note-\d+"', "", self._drawn[0]).encode()
            else:
                content = _draw(self.image, suffix)
            with appearing(folder / name) as file:
                file.write_bytes(content)

    @cached_property
    def _drawn(self) -> tuple[str, list[tuple[Note, npt.NDArray[np.float64]]]]:
        """The SVG; and of the element with the id `note-i` its note and where its points came to lie there."""
        assert isinstance(self.image, Figure)
        artists = _noted(self.image)
        for i, artist in enumerate(artists):
            artist.set_gid(f"note-{i}")  # the SVG back end writes it as the element's id
        svg = _draw(self.image, "svg").decode()
        return svg, [(_notes[artist], _places(artist, self.image)) for artist in artists]


def _noted(figure: Figure) -> list[Artist]:
    """The figure's artists that have a note, and the entries of its legends that stand for a series."""
    artists = [artist for artist in figure.findobj() if artist in _notes]
    named = {_notes[artist].series: _notes[artist].series for artist in artists}
    named |= {str(artist.get_label()): _notes[artist].series for artist in artists}
    entries = [
        (part, series)
        for legend in figure.findobj(Legend)
        if isinstance(legend, Legend)
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
        if handle is not None and (series := named.get(text.get_text()))
        for part in (handle, text)
    ]
    for part, series in entries:
        _notes[part] = Note((), series)
    return artists + [part for part, _ in entries if part not in artists]


def _points(artist: Artist) -> npt.NDArray[np.float64]:
    """The artist's points on the figure's canvas, in pixels: (points, 2); none of an area."""
    if isinstance(artist, Line2D):
        return np.asarray(artist.get_transform().transform(artist.get_xydata()))
    if isinstance(artist, PathCollection):
        return np.ma.filled(artist.get_offset_transform().transform(np.ma.asarray(artist.get_offsets())), np.nan)
    return np.empty((0, 2))


def _places(artist: Artist, figure: Figure) -> npt.NDArray[np.float64]:
    """The same in the coordinates of the SVG, once it is drawn; nan what is out of the axes."""
    points = _points(artist)
    if artist.axes is not None and artist.get_clip_on():
        (left, bottom), (right, top) = artist.axes.bbox.padded(1).get_points()
        outside = (points < (left, bottom)) | (points > (right, top))
        points = np.where(outside.any(1, keepdims=True), np.nan, points)
    places = points * _SVG_DPI / figure.dpi
    places[:, 1] = figure.get_figheight() * _SVG_DPI - places[:, 1]
    return places


@mpl.rc_context(STYLE)
def _draw(figure: Figure, suffix: str) -> bytes:
    buffer = BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
    figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    return buffer.getvalue()


def _interactive(text: str, noted: Sequence[tuple[Note, npt.NDArray[np.float64]]], name: str, alt: str) -> str:
    """The SVG element alone, with `data-tip` and `data-series`, and ids that no other figure of the page has."""
    for prefix, uri in (("", _SVG), ("xlink", _XLINK)):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(text)
    elements = {element.get("id"): element for element in root.iter()}
    for i, (note, places) in enumerate(noted):
        element = elements.get(f"note-{i}")
        if element is None:  # invisible
            continue
        del element.attrib["id"]
        series = {"data-series": note.series} if note.series else {}
        element.attrib |= series
        if len(places) != len(note.tips):
            element.attrib |= {"data-tip": note.tips[0]} if note.tips else {}
            continue
        for tip, (x, y) in zip(note.tips, places, strict=True):
            if np.isfinite([x, y]).all():
                where = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4"}
                ElementTree.SubElement(root, f"{{{_SVG}}}circle", where | {"class": "mark", "data-tip": tip} | series)
    root.attrib |= {"role": "img", "aria-label": alt}
    for size in ("width", "height"):
        del root.attrib[size]
    svg = ElementTree.tostring(root, encoding="unicode")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return _short(svg, name)


def _short(svg: str, name: str) -> str:
    """Half of the size: without indentation, names that nothing refers to, and thousandths of a point."""
    named = sorted(set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)))
    # No other figure of the page may have the same.
    names = {one: f"{zlib.crc32(name.encode()):x}-{i}" for i, one in enumerate(named)}
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{names[match[1]]}"' if match[1] in names else "", svg)
    svg = re.sub(r'(href="#|url\(#)([^")]+)', lambda match: match[1] + names[match[2]], svg)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    return re.sub(r">\s+<", "><", svg)


def file_name(*words: object) -> str:
    """Lower-case words joined by hyphens: `brain-age-ixi-roc`."""
    return "-".join(re.findall(r"[a-z0-9]+", " ".join(map(str, words)).lower()))


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
