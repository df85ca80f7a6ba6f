"""The page: what the runs say, in one HTML file that needs nothing else to open."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import jinja2
import yaml

from neuro_ssl.reporting.comparisons import Comparison, compare
from neuro_ssl.reporting.figures import (
    downstream_curves,
    forest,
    predictions,
    pretraining_curves,
    reconstructions,
    views,
)
from neuro_ssl.reporting.panel import Panel
from neuro_ssl.reporting.runs import NOT_OPENED, Runs
from neuro_ssl.reporting.tables import DETAILS, PAPER, Row, TaskGroup, format_score, leaking, reopened, task_rows

FEW_SUBJECTS = 30  # below, bootstrap intervals tend to be too narrow and no model can be told from another


@dataclass(frozen=True)
class Section:
    """What the page shows of one task on one dataset."""

    group: TaskGroup
    rows: list[Row]
    comparisons: list[Comparison]
    forest: Panel
    predictions: list[Panel]
    curves: list[Panel]


def render(runs: Runs, groups: list[TaskGroup], made: datetime, more_warnings: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        runs: all runs of the report.
        groups: the downstream ones by task, see `group_by_task`.
        made: date on the page.
        more_warnings: shown above all others.

    Returns:
        HTML.
    """
    sections = [
        Section(
            group,
            task_rows(group),
            compare(group),
            forest(group),
            predictions(group),
            downstream_curves(group),
        )
        for group in groups
    ]
    finished = runs.finished
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neuro_ssl.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = format_score
    environment.filters["yaml"] = lambda node: yaml.safe_dump(node, sort_keys=False, allow_unicode=True)
    environment.filters["duration"] = lambda seconds: str(timedelta(seconds=round(seconds)))
    return environment.get_template("page.html.j2").render(
        made=made,
        warnings=[*more_warnings, *warnings(runs, groups)],
        simulated=sorted({run.info.dataset.cohort for run in finished if run.info.dataset.simulated}),
        sections=sections,
        details=DETAILS,
        paper=PAPER,
        several_datasets=len({group.dataset.key for group in groups}) > 1,
        pretraining_curves=pretraining_curves(runs.pretraining) if runs.pretraining else [],
        views=[(run, views(run), reconstructions(run)) for run in runs.pretraining],
        runs=finished,
        datasets=list({run.info.dataset.key: run.info.dataset for run in finished}.values()),
    )


def warnings(runs: Runs, groups: list[TaskGroup]) -> list[str]:
    """What a reader must know before reading a number, apart from data being simulated."""
    lines = leaking(groups) + reopened(groups)
    few: dict[int, list[str]] = {}
    for group in groups:
        few.setdefault(min(run.results.n_test_subjects for run in group.runs), []).append(group.title)
    for n, titles in few.items():
        if n < FEW_SUBJECTS:
            lines.append(
                f"Only {n} test subjects for {', '.join(titles)}: the intervals are rough, and only large differences "
                "can show."
            )
    for run in runs.unfinished:
        if run.reason == NOT_OPENED:
            lines.append(f"Left out: {run.name} ({run.reason}). Its command without -m, with open_test=true, tests it.")
        else:
            lines.append(f"Unfinished and left out: {run.name} ({run.reason}). The same command again continues it.")
    if dirty := [run.info.name for run in runs.finished if run.info.dirty]:
        which = f"all {len(dirty)} runs" if len(dirty) == len(runs.finished) else ", ".join(dirty)
        lines.append(f"Trained with uncommitted changes, so that the commit doesn't identify the code: {which}.")
    return lines
