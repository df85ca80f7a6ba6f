"""The page: sections in order, in one HTML file that needs nothing else to open, with tables and figures beside it."""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.reporting.panel import STATIC
from neuro_ssl.reporting.section import Section
from neuro_ssl.reporting.tables import format_score, over_seeds

PAGE, FIGURES = "report.html", "figures"
ORDER = (
    *("summary", "results", "evaluations", "embeddings", "pretraining", "training", "explanations"),
    *("made", "reading"),
)


def render(sections: Sequence[Section], made: datetime, warnings: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        sections: in any order; those without content are simply not there.
        made: date on the page.
        warnings: shown above those of the sections.

    Returns:
        HTML.
    """
    sections = sorted(sections, key=lambda section: ORDER.index(section.name))
    name_apart(sections)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neuro_ssl.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = format_score
    environment.filters["seeds"] = over_seeds
    environment.filters["yaml"] = lambda node: yaml.safe_dump(node, sort_keys=False, allow_unicode=True)
    environment.filters["duration"] = lambda seconds: str(timedelta(seconds=round(seconds)))
    return environment.get_template("page.html.j2").render(
        made=made,
        sections=sections,
        parts=[Markup(environment.get_template(f"{s.name}.html.j2").render(s.content)) for s in sections],
        warnings=[*warnings, *(line for section in sections for line in section.warnings)],
        simulated=sorted({cohort for section in sections for cohort in section.simulated}),
        sources=[words for section in sections for words in section.sources],
    )


def write(
    output: Path, sections: Sequence[Section], made: datetime, formats: Sequence[str], warnings: Sequence[str] = ()
) -> None:
    """Write the page, its tables and its figures into a folder; those of an earlier report go.

    Args:
        output: the folder.
        sections: see `render`.
        made: date on the page.
        formats: of the figures: any of `panel.STATIC`.
        warnings: see `render`.

    Raises:
        InputError: another format, or a file cannot be written.
    """
    if unknown := sorted(set(formats) - set(STATIC)):
        raise InputError(f"figures=[{', '.join(unknown)}]: not among {', '.join(STATIC)}")
    page = render(sections, made, warnings)
    files = {name: text for section in sections for name, text in section.files.items()} | {PAGE: page}
    with ExitStack() as stack:  # all are written before one takes its place
        for name, text in files.items():
            stack.enter_context(appearing(output / name)).write_text(text, encoding="utf-8")
    complete, new = output / FIGURES, output / f".{FIGURES}"
    shutil.rmtree(new, ignore_errors=True)  # of a report that was interrupted
    for section in sections:
        for panel in section.panels:
            panel.write(new, formats)
    if complete.exists():
        shutil.rmtree(complete)
    if new.exists():
        new.rename(complete)


def name_apart(sections: Sequence[Section]) -> None:
    """Number the later ones of figures that have one name: `sex-ixi-roc-2`."""
    seen: Counter[str] = Counter()
    for section in sections:
        for panel in section.panels:
            seen[panel.name] += 1
            if seen[panel.name] > 1:
                panel.name = f"{panel.name}-{seen[panel.name]}"
