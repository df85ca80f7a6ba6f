"""A part of the page. Each room makes its own, and `page` puts them in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuro_ssl.reporting.panel import Panel


@dataclass(frozen=True)
class Section:
    """What one template shows, and what of it belongs elsewhere.

    Attributes:
        name: one of `page.ORDER`: of its template, `templates/NAME.html.j2`, whose outermost element has it as its id.
        title: in the table of contents; that of the template's `h2`.
        content: the template's variables. Templates of sections don't see each other's.
        panels: every figure in it; they are written to files beside the page, too.
        links: in the table of contents below the title: the id of an element in the template, and words.
        warnings: what a reader must know before reading a number; all sections' stand on top of the page. Of one with
            several lines the first is shown, and the others unfold.
        simulated: cohorts in it that are simulated; named on top as well.
        real: cohorts in it that are not.
        sources: what it was made from, in words: `3 finished runs`.
        files: more files beside the page, by name: tables as text.
    """

    name: str
    title: str
    content: Mapping[str, Any]
    panels: Sequence[Panel] = ()
    links: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    simulated: Sequence[str] = ()
    real: Sequence[str] = ()
    sources: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def printed(self) -> list[str]:
        """The files that a terminal shows, too: tables in Markdown, and no prose."""
        return [name for name in self.files if name.endswith(".md") and self.name != "methods"]
