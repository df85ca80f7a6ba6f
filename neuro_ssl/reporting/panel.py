"""A figure of the report: drawn once with matplotlib, shown in the page as SVG that answers to a pointer, and written
beside the page as it is for papers.

What a mark says when it is pointed at is noted on its artist with `annotate`; colours are Okabe & Ito's
(jfly.uni-koeln.de/color), which colour-blind readers can tell apart.
"""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.figure import Figure

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
}
STATIC = ("svg", "png", "pdf")
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


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
        return _interactive(_drawn(self.image, "svg").decode(), self.name, self.alt)

    def write(self, folder: Path, formats: Sequence[str] = STATIC) -> None:
        """Write the figure as files for papers, or as PNG alone where it is an image of voxels."""
        for suffix in formats if isinstance(self.image, Figure) else ("png",):
            content = _drawn(self.image, suffix) if isinstance(self.image, Figure) else self.image
            with appearing(folder / f"{self.name}.{suffix}") as file:
                file.write_bytes(content)


def annotate(artist: Artist, *, tips: Sequence[str] | None = None, series: str | None = None) -> None:
    """Note what an artist says when it is pointed at. No ids of people or scans: pages are passed on.

    Args:
        artist: a line, a scatter's collection, or a patch.
        tips: for each of its marks (points of a scatter, markers of a line, else the whole), one text.
        series: artists of one series are highlighted together.
    """
    # The SVG back end writes a gid as the element's id, from where `_interactive` takes it.
    artist.set_gid(json.dumps({"tips": list(tips or ()), "series": series}))


@mpl.rc_context(STYLE)
def _drawn(figure: Figure, suffix: str) -> bytes:
    buffer = BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
    figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    content = buffer.getvalue()
    return _interactive(content.decode(), "", "").encode() if suffix == "svg" else content


def _interactive(text: str, name: str, alt: str) -> str:
    """The SVG element alone, with `data-tip` and `data-series`, and ids that no other figure of the page has."""
    for prefix, uri in (("", _SVG), ("xlink", _XLINK)):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(text)
    for element in root.iter():
        note = element.get("id", "")
        if not note.startswith("{"):
            continue
        del element.attrib["id"]
        content = json.loads(note)
        if content["series"]:
            element.set("data-series", content["series"])
        marks = list(_marks(element))
        tips = content["tips"]
        for mark, tip in zip(marks if len(marks) == len(tips) else [element], tips, strict=len(marks) == len(tips)):
            mark.set("data-tip", tip)
    if alt:
        root.set("role", "img")
        root.set("aria-label", alt)
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    svg = ElementTree.tostring(root, encoding="unicode")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg) if name else svg


def _marks(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The elements that stand for a point each."""
    yield from element.iter(f"{{{_SVG}}}use")


def file_name(*words: object) -> str:
    """Lower-case words joined by hyphens: `brain-age-ixi-roc`."""
    return "-".join(re.findall(r"[a-z0-9]+", " ".join(map(str, words)).lower()))


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
