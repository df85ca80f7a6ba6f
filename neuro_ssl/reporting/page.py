"""The page: sections in order, in one HTML file that needs nothing else to open, with tables and figures beside it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.reporting.cells import format_score, over_seeds
from neuro_ssl.reporting.panel import STATIC
from neuro_ssl.reporting.section import Section

PAGE, FIGURES = "report.html", "figures"
RECORD = ".report"  # what of a folder a report has written
LARGE_MB = 15  # a page beyond is too much for many mail servers
ORDER = (
    *("summary", "results", "sweeps", "evaluations", "embeddings", "pretraining", "training"),
    *("explanations", "made", "methods", "reading"),
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
        real=sorted({cohort for section in sections for cohort in section.real}),
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
    panels = [panel for section in sections for panel in section.panels]
    figures = [f"{FIGURES}/{name}" for panel in panels for name in panel.files(formats)]
    with _replacing(output, [*files, *figures]):
        with ExitStack() as stack:  # all are written before one takes its place
            for name, text in files.items():
                stack.enter_context(appearing(output / name)).write_text(text, encoding="utf-8")
        for panel in panels:
            panel.write(output / FIGURES, formats)


@contextmanager
def _replacing(output: Path, names: Sequence[str]) -> Iterator[None]:
    """Delete what an earlier report wrote and this one doesn't; a folder may hold files of others, which stay."""
    record, wanted = output / RECORD, set(names)
    earlier = set(record.read_text(encoding="utf-8").splitlines()) if record.exists() else set()
    _note(record, earlier | wanted)  # whatever interrupts this, the next report knows
    yield
    for name in earlier - wanted:
        (output / name).unlink(missing_ok=True)
    with suppress(OSError):  # there are figures, or never were
        (output / FIGURES).rmdir()
    _note(record, wanted)


def _note(record: Path, names: Collection[str]) -> None:
    text = "".join(f"{name}\n" for name in sorted(names))
    if record.exists() and record.read_text(encoding="utf-8") == text:
        return
    with appearing(record) as file:
        file.write_text(text, encoding="utf-8")


def name_apart(sections: Sequence[Section]) -> None:
    """Number the later ones of figures that have one name: `sex-ixi-roc-2`."""
    taken: set[str] = set()
    for section in sections:
        for panel in section.panels:
            numbered = (f"{panel.name}-{i}" for i in count(2))
            panel.name = panel.name if panel.name not in taken else next(n for n in numbered if n not in taken)
            taken.add(panel.name)
