"""What the page says of training runs: summary, results, pretraining, training, and how all was made."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuro_ssl.reporting.cautions import FEW_SUBJECTS, few_subjects
from neuro_ssl.reporting.panel import Panel
from neuro_ssl.reporting.runs.comparisons import Comparison, compare, significance
from neuro_ssl.reporting.runs.curves import pretraining_curves, task_curves
from neuro_ssl.reporting.runs.figures import MODEL_COLOURS, forest, predictions, reconstructions, views
from neuro_ssl.reporting.runs.making import made_section
from neuro_ssl.reporting.runs.models import TaskGroup, group_by_task
from neuro_ssl.reporting.runs.reading import NOT_OPENED, PretrainingRun, Runs
from neuro_ssl.reporting.runs.tables import (
    AGAINST,
    DETAILS,
    PAPER,
    SIGNIFICANCE,
    Row,
    latex,
    leaking,
    markdown,
    reopened,
    seed_rows,
    task_rows,
)
from neuro_ssl.reporting.runs.tidy import tidy_comparisons, tidy_results
from neuro_ssl.reporting.section import Section


@dataclass(frozen=True)
class TaskPart:
    """What the page shows of one task on one dataset."""

    group: TaskGroup
    comparisons: list[Comparison]
    rows: list[Row]
    seeds: list[Row]
    forest: Panel
    predictions: list[Panel]
    curves: list[Panel]

    @property
    def compared(self) -> bool:
        """Whether any row has a p value."""
        return any(row.against for row in self.rows)


def run_sections(runs: Runs, elsewhere: Sequence[str] = ()) -> list[Section]:
    """All that is to be said of runs: the sections of what there is, and how to read them.

    Args:
        runs: those to show.
        elsewhere: names of runs that are not among them, as an evaluation that is shown trained and judged them.
    """
    parts = [_task_part(group) for group in group_by_task(runs.downstream)]
    groups = [part.group for part in parts]
    sections = _task_sections(parts) if parts else []
    if runs.pretraining:
        sections.append(_pretraining_section(runs.pretraining))
    if runs.finished:
        sections.append(made_section(runs.finished))
    about = {"paper": PAPER if any(group.reference for group in groups) else ""}
    cohorts = {run.info.dataset.cohort: run.info.dataset.simulated for run in runs.finished}
    simulated, real = ([name for name, is_so in cohorts.items() if is_so == wanted] for wanted in (True, False))
    lines = warnings(runs, groups)
    if elsewhere:
        how = "and are shown with its results alone; named in runs=, they are shown by themselves, too"
        are = "1 run is a training" if len(elsewhere) == 1 else f"{len(elsewhere)} runs are trainings"
        lines.append("\n".join([f"{are} of an evaluation {how}.", *elsewhere]))
    title = "How to read this page"
    return [*sections, Section("reading", title, about, warnings=lines, simulated=simulated, real=real)]


def _task_part(group: TaskGroup) -> TaskPart:
    comparisons = compare(group)
    rows = task_rows(group, significance(comparisons))
    figures = forest(group, rows), predictions(group), task_curves(group, MODEL_COLOURS)
    return TaskPart(group, comparisons, rows, seed_rows(group), *figures)


def _task_sections(parts: Sequence[TaskPart]) -> list[Section]:
    groups, rows = [part.group for part in parts], [part.rows for part in parts]
    several_datasets = len({group.dataset.key for group in groups}) > 1
    titles = [f"{g.title} ({g.dataset.title})" if several_datasets else g.title for g in groups]
    content = {"parts": parts, "several_datasets": several_datasets, "details": DETAILS}
    content |= {"against": AGAINST, "significance": SIGNIFICANCE}
    files = {
        "results.csv": tidy_results(groups).to_csv(index=False),
        "results.md": markdown(groups, rows),
        "results.tex": latex(groups, rows),
    }
    compared = tidy_comparisons(groups, [part.comparisons for part in parts])
    if not compared.empty:
        files["comparisons.csv"] = compared.to_csv(index=False)

    def links(section: str) -> list[tuple[str, str]]:
        return [(f"{section}-{i}", title) for i, title in enumerate(titles, start=1)]

    return [
        Section("summary", "Summary", content, [part.forest for part in parts], links("summary")),
        Section(
            "results",
            "Results",
            content,
            [panel for part in parts for panel in part.predictions],
            links("results"),
            files=files,
        ),
        Section("training", "Training on the tasks", content, [panel for part in parts for panel in part.curves]),
    ]


def _pretraining_section(runs: list[PretrainingRun]) -> Section:
    curves = pretraining_curves(runs)
    examples = [(run, views(run), reconstructions(run)) for run in runs]
    panels = [panel for of_group in curves.values() for panel in of_group]
    panels += [panel for _, of_views, reconstructed in examples for panel in of_views + reconstructed]
    links = [(f"pretraining-{i}", heading.partition(":")[0]) for i, heading in enumerate(curves, start=1)]
    content = {"curves": curves, "examples": examples}
    return Section("pretraining", "Pretraining", content, panels, [*links, ("pretraining-views", "Example views")])


def warnings(runs: Runs, groups: Sequence[TaskGroup]) -> list[str]:
    """What a reader must know before reading a number, apart from data being simulated."""
    lines = leaking(groups) + reopened(groups)
    few: dict[int, list[str]] = {}
    several = len({group.dataset.cohort for group in groups}) > 1
    for group in groups:
        title = f"{group.title} (cohort {group.dataset.cohort})" if several else group.title
        few.setdefault(min(run.results.n_test_subjects for run in group.runs), []).append(title)
    for n, titles in few.items():
        if n < FEW_SUBJECTS:
            lines.append(few_subjects(n, ", ".join(dict.fromkeys(titles))))
    unfinished = [run for run in runs.unfinished if run.reason != NOT_OPENED]
    for run in unfinished:
        lines.append(f"Unfinished and left out: {run.name} ({run.reason}). The same command again continues it.")
    closed = [run.name for run in runs.unfinished if run.reason == NOT_OPENED]
    if closed:
        which, names = (closed[0], []) if len(closed) == 1 else (f"{len(closed)} runs", closed)
        how = "as it does in a search or an evaluation: its command without -m, with open_test=true, tests a run"
        lines.append("\n".join([f"Left out: {which} ({NOT_OPENED}), {how}.", *names]))
    if dirty := [run.info.name for run in runs.finished if run.info.dirty]:
        which = f"all {len(dirty)} runs" if len(dirty) == len(runs.finished) else ", ".join(dirty)
        lines.append(f"Trained with uncommitted changes, so that the commit doesn't identify the code: {which}.")
    return lines
