"""A sweep's tables as text: for the screen, as Markdown, and as CSV."""

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.files import appearing
from neuro_ssl.reporting.cells import padded
from neuro_ssl.reporting.sweeps.reading import Outcome, Sweep, read_sweep
from neuro_ssl.reporting.sweeps.table import (
    Table,
    higher_is_better,
    next_commands,
    shown_values,
    tables,
)

FILES = "sweep.csv", "sweep.md"  # in the sweep's folder
WIDTH, GAP, LEAST = 100, 2, 8  # characters: of the screen, between columns, of a cell that is shortened
STATUSES = ("finished", "not finished", "failed", "pruned")
GOES_ON = "the same command goes on"
MOST_NAMED = 6  # of points with the same reason


def conclude(folder: Path) -> None:
    """Show a sweep's tables, what became of its other points and what to do next; write them beside its records.

    Args:
        folder: of the sweep; nothing is done for one without points.
    """
    sweep = read_sweep(folder)
    if not sweep.outcomes:
        return
    found = tables(sweep)
    for name, text in zip(FILES, (as_frame([sweep]).to_csv(index=False), markdown(sweep)), strict=True):
        with appearing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    lines = ["", f"sweep {counted(sweep)}"]
    for table in found:
        lines += ["", f"{table.title}: {ranking(table)}", *_aligned(cells(table)), *_wrapped(notes(table))]
    lines += _wrapped(rest(sweep))
    for table in found:
        for words, command in next_commands(table):
            lines += ["", words, f"  {command}"]
    print("\n".join([*lines, "", f"table: {folder / FILES[0]}"]))


def markdown(sweep: Sweep, *, shared: bool = False) -> str:
    """The same for a report or a notebook.

    Args:
        sweep: to be shown.
        shared: as part of a report, without ids, paths, and commands, which have some.
    """
    parts = [f"### Sweep {counted(sweep)}"]
    for table in tables(sweep):
        parts += [f"{table.title}: {ranking(table)}", padded(cells(table)), *notes(table)]
        for words, command in () if shared else next_commands(table):
            parts.append(f"{words}\n\n    {command}")
    return "\n\n".join([*parts, *rest(sweep, shared=shared)]) + "\n"


def as_frame(sweeps: Sequence[Sweep], *, shared: bool = False) -> pd.DataFrame:
    """One row a setting, with its means at full precision, and one a point that has no score, with the reason.

    Args:
        sweeps: to be shown.
        shared: as part of a report, without ids and paths.
    """
    return pd.DataFrame([row for sweep in sweeps for row in _tidy(sweep, shared)])


def counted(sweep: Sweep) -> str:
    """`2026-01-02_03-04-05: 8 points, 7 finished, 1 failed`."""
    n = Counter[str](outcome.status for outcome in sweep.outcomes)
    parts = [f"{n[status]} {status}" for status in STATUSES if n[status]]
    return f"{sweep.folder.name}: {len(sweep.outcomes)} point{'s' * (len(sweep.outcomes) > 1)}, {', '.join(parts)}"


def ranking(table: Table) -> str:
    """By what rows are ordered."""
    if not table.metric:
        return "pretraining has no score unless objective names one"
    return f"{table.metric}, the {'larger' if higher_is_better(table.metric) else 'smaller'} the better"


def cells(table: Table) -> list[list[str]]:
    """Heading and rows; an asterisk marks the best."""
    header = ["best", *table.sweep.differing, "seeds"] if table.best else [*table.sweep.differing, "seeds"]
    header += ["validation"] if table.metric else []
    header += [f"test {table.test_label}"] if table.test_label else []
    body = []
    for row, values in zip(table.rows, shown_values(table.sweep, table.rows), strict=True):
        mark = ["*" if row is table.best else ""] if table.best else []
        scores = [_score(row.validation)] if table.metric else []
        scores += [_score(row.test)] if table.test_label else []
        body.append([*mark, *values, row.seeds, *scores])
    runs = [" ".join(outcome.run for outcome in row.outcomes) for row in table.rows]
    if not table.metric:  # what else is there to tell
        header.append("runs")
        body = [[*line, names] for line, names in zip(body, runs, strict=True)]
    return [header, *body]


def notes(table: Table) -> list[str]:
    """How to read the table."""
    if not table.metric:
        return []
    lines = []
    folded = table.sweep.replicated
    if folded:
        over = ", ".join(folded)
        lines.append(f"Mean over {over}, with the 95 % t interval where there are three or more that differ.")
    else:
        lines.append("One run each, so without an interval over seeds.")
    if table.best:
        lines.append("* best, by the validation score alone, which is better than new subjects' scores will be.")
    if table.test_label:
        single = any(len(row.outcomes) == 1 for row in table.rows)
        how = " Of one run its interval is over subjects." if single else ""
        lines.append(f"The test score had no part in the choice.{how}")
    return lines


def rest(sweep: Sweep, *, shared: bool = False) -> list[str]:
    """The points without a score: which, and why; `shared` without ids and paths."""
    whose: dict[str, list[str]] = {}
    for outcome in sweep.outcomes:
        if outcome.status in ("failed", "not finished"):
            words = _reason(outcome, shared) if outcome.status == "failed" else GOES_ON
            whose.setdefault(f"{outcome.status}: {words}", []).append(named(sweep, outcome))
    lines = []
    for what, names in whose.items():
        more = f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        lines.append(f"{what} ({'; '.join(names[:MOST_NAMED])}{more})")
    if n := sum(outcome.status == "pruned" for outcome in sweep.outcomes):
        lines.append(f"pruned as they were worse than others at the same epoch: {n} point{'s' * (n > 1)}")
    return lines


def named(sweep: Sweep, outcome: Outcome) -> str:
    """A point by what tells it from the others."""
    settings = {key: outcome.settings[key] for key in outcome.settings if key in (*sweep.differing, *sweep.replicated)}
    return " ".join(f"{key}={Path(v).name if '/' in v else v}" for key, v in settings.items()) or "its only point"


def _reason(outcome: Outcome, shared: bool) -> str:
    return outcome.shared_reason if shared else outcome.reason


def _tidy(sweep: Sweep, shared: bool) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for table in tables(sweep):
        task, target, cohort, metric = table.rows[0].outcomes[0].what
        about = {"sweep": sweep.folder.name, "task": task, "target": target, "cohort": cohort}
        for row in table.rows:
            lines.append(
                about
                | dict(zip(sweep.differing, map(_named, row.setting), strict=True))
                | {"status": "finished", "n_seeds": len(row.outcomes), "best": row is table.best}
                | {"metric": metric, **_numbers("validation", row.validation)}
                | ({"test_metric": table.test_label, **_numbers("test", row.test)} if table.test_label else {})
                | {"runs": " ".join(outcome.run for outcome in row.outcomes)}
            )
    for outcome in sweep.outcomes:
        if outcome.status != "finished":
            keys = (*sweep.differing, *sweep.replicated)
            settings = {key: _named(outcome.settings[key]) for key in keys if key in outcome.settings}
            about = {"sweep": sweep.folder.name, **settings, "status": outcome.status}
            lines.append(about | {"runs": outcome.run, "reason": _reason(outcome, shared)})
    return lines


def _numbers(name: str, score: Score) -> dict[str, float]:
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}


def _named(value: str) -> str:
    return Path(value).name if "/" in value else value


def _score(score: Score) -> str:
    """`0.8123 [0.7901, 0.8345]`, four digits that count."""
    if math.isnan(score.value):
        return "–"
    interval = "" if math.isnan(score.low) else f" [{score.low:.4g}, {score.high:.4g}]"
    return f"{score.value:.4g}{interval}"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns that fit the screen: headings by their last word, then long cells shortened."""
    widest = max(len(cell) for row in rows for cell in row)
    while widest > LEAST and _width(rows) > WIDTH:
        if rows[0] != (last := [cell.rpartition(".")[2] for cell in rows[0]]):
            rows = [last, *rows[1:]]
            continue
        widest -= 1
        rows = [[cell if len(cell) <= widest else f"{cell[: widest - 1].rstrip('…')}…" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = " " * GAP
    return [f"  {gap.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))}".rstrip() for row in rows]


def _width(rows: list[list[str]]) -> int:
    columns = list(zip(*rows, strict=True))
    return sum(max(map(len, column)) for column in columns) + GAP * len(columns)


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]
