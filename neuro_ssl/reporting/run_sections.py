"""What the page says of training runs: summary, results, pretraining, training, and how all was made."""

from dataclasses import dataclass

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
from neuro_ssl.reporting.section import Section
from neuro_ssl.reporting.tables import (
    DETAILS,
    PAPER,
    Row,
    TaskGroup,
    group_by_task,
    leaking,
    markdown,
    reopened,
    task_rows,
    tidy_results,
)

FEW_SUBJECTS = 30  # below, bootstrap intervals tend to be too narrow and no model can be told from another


@dataclass(frozen=True)
class TaskPart:
    """What the page shows of one task on one dataset."""

    group: TaskGroup
    rows: list[Row]
    comparisons: list[Comparison]
    forest: Panel
    predictions: list[Panel]
    curves: list[Panel]


def run_sections(runs: Runs) -> list[Section]:
    """All that is to be said of runs."""
    groups = group_by_task(runs.downstream)
    finished = runs.finished
    parts = [
        TaskPart(
            group,
            task_rows(group),
            compare(group),
            forest(group),
            predictions(group),
            downstream_curves(group),
        )
        for group in groups
    ]
    several_datasets = len({group.dataset.key for group in groups}) > 1
    sections = []
    if parts:
        content = {"parts": parts, "several_datasets": several_datasets, "details": DETAILS}
        sections += [
            Section("summary", "Summary", content, [part.forest for part in parts]),
            Section(
                "results",
                "Results",
                content,
                [panel for part in parts for panel in part.predictions],
                files={"results.csv": tidy_results(groups).to_csv(index=False), "results.md": markdown(groups)},
            ),
            Section("training", "Training on the tasks", content, [panel for part in parts for panel in part.curves]),
        ]
    if runs.pretraining:
        curves = pretraining_curves(runs.pretraining)
        examples = [(run, views(run), reconstructions(run)) for run in runs.pretraining]
        pictures = [panel for _, of_views, reconstructed in examples for panel in of_views + reconstructed]
        content = {"curves": curves, "examples": examples}
        sections.append(Section("pretraining", "Pretraining", content, [*curves, *pictures]))
    if finished:
        datasets = list({run.info.dataset.key: run.info.dataset for run in finished}.values())
        sections.append(
            Section(
                "made",
                "How it was made",
                {"runs": finished, "datasets": datasets},
                sources=[f"{len(finished)} finished run{'s' if len(finished) != 1 else ''}"],
            )
        )
    about = {"paper": PAPER if any(group.reference for group in groups) else ""}
    simulated = sorted({run.info.dataset.cohort for run in finished if run.info.dataset.simulated})
    return [
        *sections,
        Section("reading", "How to read this page", about, warnings=warnings(runs, groups), simulated=simulated),
    ]


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
