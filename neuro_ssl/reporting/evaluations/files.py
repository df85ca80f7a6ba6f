"""Evaluations as files beside the page: Markdown, LaTeX and CSV."""

import re
from collections.abc import Sequence

import pandas as pd

from neuro_ssl.reporting.cells import padded
from neuro_ssl.reporting.evaluations import tables
from neuro_ssl.reporting.evaluations.reading import Evaluation, Tested
from neuro_ssl.reporting.evaluations.tables import Table
from neuro_ssl.reporting.evaluations.verdicts import QUESTIONS, SIGNS, verdict
from neuro_ssl.reporting.latex import latex_table, together
from neuro_ssl.reporting.panel import file_name

ROWS = 20  # of a LaTeX table, which doesn't break across pages
INTERVALS = "95 % intervals over people in brackets; signs and p values as explained in the report."
_SIGN = re.compile(rf"^({'|'.join(SIGNS.values())}) ")


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """What came of each task and test set, with all scores."""
    blocks = []
    for evaluation in evaluations:
        blocks += [f"## {evaluation.title}"]
        if evaluation.encoders:
            blocks += [_padded(tables.overview(evaluation))]
        for tested in evaluation.tested:
            blocks += [f"### {tested.title}: {tested.where}", tested.counts]
            if evaluation.encoders:
                blocks.append("\n".join(f"- {q.text} {verdict(tested, q)}" for q in QUESTIONS))
            blocks.append(_padded(tables.scores(tested)))
    return "\n\n".join(blocks) + "\n"


def latex(evaluations: Sequence[Evaluation]) -> str:
    """The overview, and of each task and test set scores and comparisons."""
    blocks = []
    for evaluation in evaluations:
        if evaluation.encoders:
            blocks.append(_latex(tables.overview(evaluation), file_name(evaluation.path.parent.name, "overview")))
        for tested in evaluation.tested:
            blocks.append(_latex(tables.scores(tested), _label(tested, "scores")))
            if len(tested.table("comparisons")):
                blocks.append(_latex(tables.comparisons(tested), _label(tested, "comparisons")))
    return together(blocks)


def csv(evaluations: Sequence[Evaluation], name: str) -> str:
    """A table of all evaluations, at full precision, with whose it is; empty if none has it."""
    of_all = [
        table.assign(
            cohort=evaluation.cohort.cohort,
            simulated=evaluation.cohort.simulated,
            evaluation=f"{evaluation.path.parent.name}/{evaluation.path.name}",
        )
        for evaluation in evaluations
        if (table := evaluation.tables.get(name)) is not None
    ]
    return pd.concat(of_all, ignore_index=True).to_csv(index=False) if of_all else ""


def files(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """All of it, by name of the file."""
    tidy = {f"evaluation_{name}.csv": csv(evaluations, name) for name in ("scores", "comparisons")}
    texts = {"evaluations.md": markdown(evaluations), "evaluations.tex": latex(evaluations)} if evaluations else {}
    return texts | {name: text for name, text in tidy.items() if text}


def _padded(table: Table) -> str:
    return padded([list(table.header), *([cell.plain for cell in row] for row in table.rows)])


def _latex(table: Table, label: str) -> str:
    # Signs are not in every font; the words beside them say the same.
    rows = [[_SIGN.sub("", f"{cell.text}\n{cell.small}").strip() for cell in row] for row in table.rows]
    parts = [rows[i : i + ROWS] for i in range(0, len(rows), ROWS)]
    return "\n".join(
        latex_table(
            table.header,
            part,
            caption=f"{table.caption}{f', part {i} of {len(parts)}' if len(parts) > 1 else ''}.",
            label=f"tab:{label}{f'-{i}' if i > 1 else ''}",
            notes=[INTERVALS],
        )
        for i, part in enumerate(parts, 1)
    )


def _label(tested: Tested, what: str) -> str:
    return file_name(tested.evaluation.cohort.cohort, tested.task, tested.test_set, what)
