"""Results as tables, one a task: for people (Markdown, HTML) and for papers (LaTeX). For machines: `tidy`."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.cells import format_score, over_seeds, padded
from neuro_ssl.reporting.latex import latex_table, together
from neuro_ssl.reporting.panel import file_name
from neuro_ssl.reporting.runs.models import Model, TaskGroup
from neuro_ssl.reporting.runs.reading import DownstreamRun

UNDEFINED = Score(math.nan, math.nan, math.nan)
AGAINST = "p (Holm)"  # heading of the column of comparisons
DETAILS = ("Weights", "Encoder", "Seed", "Leakage", "Test scans (subjects)")
PAPER = "Rows “Paper”: what Kaczmarek et al. 2025 report, on their own test scans, not on these; without intervals."
SIGNIFICANCE = (
    "p: of the difference to the counterpart that is named, the same encoder without pretraining, paired by subject "
    "(DeLong's test, or a permutation test), after Holm's correction within the table; * below 0.05."
)


@dataclass(frozen=True)
class Row:
    """One line of a task's table.

    Attributes:
        name: of the model, the baseline, or the paper's.
        scores: in the order of the group's metrics.
        details: as named by `DETAILS`.
        model: None for the baseline and the paper.
        over_seeds: of several seeds their mean and interval over seeds, in the order of `scores`.
        against: p value and counterpart.
        is_paper: a score from the literature.
    """

    name: str
    scores: list[Score]
    details: list[str]
    model: Model | None = None
    over_seeds: list[Score] = field(default_factory=list)
    against: str = ""
    is_paper: bool = False


def task_rows(group: TaskGroup, against: Mapping[str, str] | None = None) -> list[Row]:
    """The models of a task, the baseline and, last, the paper's.

    Args:
        group: the task.
        against: by a model's name what its row says of its counterpart, see `comparisons.significance`.
    """
    rows = []
    for model in group.models:
        scores = [model.scores.get(name, UNDEFINED) for name in group.metrics]
        seeds = [model.over_seeds(name) for name in group.metrics] if len(model.runs) > 1 else []
        rows.append(Row(model.name, scores, _details(model), model, seeds, (against or {}).get(model.name, "")))
    baseline = group.runs[0].results.baseline
    scores = [score_of(baseline.scores, name) for name in group.metrics]
    rows.append(Row(f"Baseline: {baseline.name}", scores, ["", "", "", "", rows[0].details[-1]]))
    return rows + _paper_rows(group)


def seed_rows(group: TaskGroup) -> list[Row]:
    """Each run of the models that have several seeds."""
    single = [Model(group.name(run), [run]) for model in group.models if len(model.runs) > 1 for run in model.runs]
    return [
        Row(model.name, [model.scores.get(name, UNDEFINED) for name in group.metrics], _details(model), model)
        for model in single
    ]


def _details(model: Model) -> list[str]:
    first = model.runs[0]
    weights = first.info.weights.name if first.info.weights else "none"
    if first.info.covariates:  # in no comparison with pretraining that saw none
        weights += f" (labels: {', '.join(first.info.covariates)})"
    n_test = f"{first.results.n_test_scans} ({first.results.n_test_subjects})"
    leakage = ", ".join(dict.fromkeys(leakage_verdict(run) for run in model.runs))
    return [weights, first.info.encoder.name, ", ".join(map(str, model.seeds)), leakage, n_test]


def baseline_row(rows: list[Row]) -> Row:
    """That of the baseline, of a task's rows."""
    return next(row for row in rows if row.model is None)


def _paper_rows(group: TaskGroup) -> list[Row]:
    reference = group.reference
    if reference is None:
        return []
    cohort = reference.cohort.upper()
    same = reference.cohort == group.dataset.cohort
    whose = f"the paper's own split of {cohort}" if same else f"another test set ({cohort})"
    return [
        Row(
            f"Paper ({how}, {cohort})",
            [Score(value, math.nan, math.nan) if name == reference.metric else UNDEFINED for name in group.metrics],
            ["", "", "", "", whose],
            None,
            is_paper=True,
        )
        for how, value in (("fine-tuned SimCLR", reference.fine_tuned), ("from scratch", reference.from_scratch))
        if value is not None
    ]


def leakage_verdict(run: DownstreamRun) -> str:
    """`disjoint`, `overlapping` or `unknown`; for runs of a version that did not look, `not checked`."""
    return run.results.leakage.verdict if run.results.leakage else "not checked"


def leaking(groups: Sequence[TaskGroup]) -> list[str]:
    """A line for each run whose encoder has seen validation or test subjects, or may have."""
    return [
        f"{group.title}, {group.name(run)} ({run.info.name}): {run.results.leakage}."
        for group in groups
        for run in group.runs
        if run.results.leakage and run.results.leakage.verdict != "disjoint"
    ]


def reopened(groups: Sequence[TaskGroup]) -> list[str]:
    """A line for each run whose test split was opened more than once."""
    return [
        f"{group.title}, {group.name(run)} ({run.info.name}): the test split was opened {len(times)} times, at "
        f"{', '.join(times)}."
        for group in groups
        for run in group.runs
        if len(times := run.results.test_opened) > 1
    ]


def markdown(groups: Sequence[TaskGroup], rows: Sequence[list[Row]]) -> str:
    """One padded table a task: readable as Markdown and in a terminal. Of several seeds another one with each.

    Args:
        groups: the tasks.
        rows: of each, see `task_rows`.
    """
    blocks = []
    for group, of_group in zip(groups, rows, strict=True):
        header = ["Model", *map(group.label, group.metrics), *DETAILS]
        compared = any(row.against for row in of_group)
        body = [[row.name, *_cells(row), *([row.against] if compared else []), *row.details] for row in of_group]
        title = f"### {group.title}: {group.dataset.title}"
        with_p = [*header[: -len(DETAILS)], *([AGAINST] if compared else []), *DETAILS]
        blocks.append(f"{title}\n\n{padded([with_p, *body])}\n")
        if seeds := seed_rows(group):
            body = [[row.name, *map(format_score, row.scores), *row.details] for row in seeds]
            blocks.append(f"Each seed:\n\n{padded([header, *body])}\n")
    notes = "".join(f"\n{line}\n" for line in notes_on(groups, rows))
    return "\n".join(blocks) + notes


def latex(groups: Sequence[TaskGroup], rows: Sequence[list[Row]]) -> str:
    """One table a task for a paper: models, scores, p values; the rest is in the notes.

    Args:
        groups: the tasks.
        rows: of each, see `task_rows`.
    """
    tables = []
    for group, of_group in zip(groups, rows, strict=True):
        compared = any(row.against for row in of_group)
        header = ["Model", *map(group.label, group.metrics), *([AGAINST] if compared else [])]
        body = [
            [
                row.name,
                *(_in_lines(cell) for cell in _cells(row)),
                *([row.against.replace(" (", "\n(")] if compared else []),
            ]
            for row in of_group
        ]
        first = group.runs[0].results
        caption = (
            f"{group.title}, {group.dataset.title}: scores on the test split ({first.n_test_scans} scans of "
            f"{first.n_test_subjects} subjects) with 95 % intervals."
        )
        tables.append(
            latex_table(
                header,
                body,
                caption=caption,
                label=f"tab:{file_name(group.title, group.dataset.cohort)}",
                notes=notes_on([group], [of_group]),
                rules_before={i for i, row in enumerate(of_group) if row.model is None and of_group[i - 1].model},
            )
        )
    return together(tables)


def notes_on(groups: Sequence[TaskGroup], rows: Sequence[list[Row]]) -> list[str]:
    """What must stand below the tables."""
    all_rows = [row for of_group in rows for row in of_group]
    intervals = "Test split; 95 % intervals by bootstrap over subjects"
    if any(row.over_seeds for row in all_rows):
        intervals += "; of several seeds the mean, and after “seeds” its t interval over them (from three on)"
    lines = [f"{intervals}.{f' {PAPER}' if any(group.reference for group in groups) else ''}"]
    if any(row.against for row in all_rows):
        lines.append(SIGNIFICANCE)
    return lines + leaking(groups) + reopened(groups)


def _cells(row: Row) -> list[str]:
    """The scores as text: of several seeds with both intervals."""
    cells = [format_score(score) for score in row.scores]
    if not row.over_seeds:
        return cells
    return [cell + over_seeds(score) for cell, score in zip(cells, row.over_seeds, strict=True)]


def _in_lines(cell: str) -> str:
    """A score above its intervals."""
    return re.sub(r" (?=seeds)|(?<!seeds) (?=\[)", "\n", cell)


def score_of(scores: object, metric: str) -> Score:
    """One of the scores of a run or baseline; undefined if it isn't there."""
    interval = scores.get(metric) if isinstance(scores, dict) else None
    return interval.score if interval else UNDEFINED
