"""Forest plots of what evaluations say beside the scores: subgroups, age gaps, reliability, and what embeddings know of
the site; all numbers from their tables.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.evaluations.lines import (
    MARKERS,
    Line,
    colour_of,
    name_of,
    protocols_in,
    score_of,
    subgroup_in_words,
    title_of,
)
from neuro_ssl.reporting.evaluations.reading import Evaluation, Tested
from neuro_ssl.reporting.evaluations.verdicts import protocol_in_words
from neuro_ssl.reporting.forest import Mark, forest, reference_line
from neuro_ssl.reporting.panel import GREY, STYLE, Panel, file_name


@mpl.rc_context(STYLE)
def subgroups(tested: Tested, lines: Sequence[Line]) -> Panel:
    """The primary metric in each subgroup, of a few lines."""
    table = tested.table("subgroups").query("metric == @tested.primary")
    blocks, legend = {}, {}
    for (subgroup, level), here in table.groupby(["subgroup", "level"], sort=False):
        n, few = here["n_subjects"].iloc[0], bool(here["few"].iloc[0])
        why = ", undefined" if here["value"].isna().all() else ", few" if few else ""
        marks = []
        for line in lines:
            colour, _ = colour_of(tested.evaluation, line.model)
            legend[line.label] = (MARKERS[line.protocol], colour)
            for row in line.of(here).to_dict("records"):
                tip = f"{level}, {line.label}: {tested.metric.label} {format_score(score_of(row))}, {n} people"
                marks.append([Mark(score_of(row), colour, MARKERS[line.protocol], tip, line.label, not few)])
        blocks[f"{subgroup_in_words(subgroup, level)} ({n}{why})"] = marks
    figure, _ = forest(blocks, tested.label(), legend)
    return Panel(
        name_of(tested, "subgroups"),
        f"{title_of(tested)}: {tested.label()} by subgroup with 95 % intervals; all in the table below.",
        "In brackets: people; undefined without both classes. Hollow: under 10 people, no claim. Intervals say how "
        "well a subgroup's score is known, not that two differ; of many subgroups some stand out by chance.",
        figure,
    )


@mpl.rc_context(STYLE)
def age_gap(tested: Tested) -> Panel:
    """Slope of the age gap (predicted minus true) on age, before and after the correction."""
    table = tested.table("age_gap")
    blocks: dict[str, list[list[Mark]]] = {}
    for row in table.to_dict("records"):
        name, colour = tested.evaluation.names[row["model"]], colour_of(tested.evaluation, row["model"])[0]
        marks = []
        for column, words in (("slope", "before"), ("slope_corrected", "after")):
            score = Score(row[column], row[f"{column}_low"], row[f"{column}_high"])
            line = f"{name}, {protocol_in_words(row['protocol'])}"
            tip = f"{line}, {words} correction: slope {format_score(score)} years a year"
            marks.append(Mark(score, colour, MARKERS[row["protocol"]], tip, name, words == "after"))
        blocks.setdefault(name, []).append(marks)
    figure, axes = forest(blocks, "Slope of the gap, years a year", protocols_in(table), columns=3)
    reference_line(axes, 0, "the gap doesn't hang on age", "-")
    return Panel(
        name_of(tested, "age gap"),
        f"{title_of(tested)}: slope of the age gap on age, before and after correction; all in the table below.",
        "Hollow: as predicted; a negative slope makes the young too old and the old too young. Filled: after the "
        "correction by a line that validation scans gave; near 0 if that holds on these people.",
        figure,
    )


@mpl.rc_context(STYLE)
def reliability(evaluation: Evaluation, cohort: str) -> Panel | None:
    """ICC of embeddings between two scans of a person, by model; None if the table has none."""
    table = evaluation.tables["reliability"]
    table = table[table["cohort"].eq(cohort) & table["what"].str.startswith("embedding")]
    keys = (table["what"].str.removeprefix("embedding, ") + ", " + table["pairs"]).to_list()
    return _by_model(
        evaluation,
        table.assign(key=keys),
        dict(zip(dict.fromkeys(keys), ("o", "s", "D", "^"), strict=False)),
        "ICC(2,1) of the embedding",
        (f"{cohort} reliability", f"Reliability of embeddings, cohort {cohort}"),
        "1: both scans of a person, within three months, give the same. Held-out people alone, 95 % intervals. An "
        "encoder that says nothing is reliable too: read it beside the scores.",
    )


@mpl.rc_context(STYLE)
def site(evaluation: Evaluation, cohort: str) -> Panel | None:
    """How well an embedding tells site and scanner, by model, beside chance; None if the table has none."""
    table = evaluation.tables["site"]
    table = table[table["cohort"] == cohort]
    counted = zip(table["column"], table["n_groups"], table["chance"], strict=True)
    keys = [f"{column}, {n} of them, chance {chance:.2f}" for column, n, chance in counted]
    return _by_model(
        evaluation,
        table.assign(key=keys),
        dict(zip(dict.fromkeys(keys), ("o", "s"), strict=False)),
        "Balanced accuracy of telling site or scanner",
        (f"{cohort} site", f"What embeddings know of the site, cohort {cohort}"),
        "Dashed: chance. Above it, the embedding carries the site, be it by its scanner or by whom it examined. "
        "Held-out people, 95 % intervals.",
        {f"chance, {column}": chance for column, chance in zip(table["column"], table["chance"], strict=True)},
    )


def _by_model(
    evaluation: Evaluation,
    table: pd.DataFrame,
    markers: Mapping[str, str],
    xlabel: str,
    names: tuple[str, str],
    caption: str,
    chances: Mapping[str, float] | None = None,
) -> Panel | None:
    """A block a model, in it a line a `key`."""
    if table.empty:
        return None
    blocks: dict[str, list[list[Mark]]] = {}
    for row in table.to_dict("records"):
        name, colour = evaluation.names[row["model"]], colour_of(evaluation, row["model"])[0]
        tip = f"{name}, {row['key']}: {format_score(score_of(row))}, {row['n_subjects']} people"
        blocks.setdefault(name, []).append([Mark(score_of(row), colour, markers[row["key"]], tip, name)])
    figure, axes = forest(blocks, xlabel, {key: (marker, GREY) for key, marker in markers.items()})
    for words, x in (chances or {}).items():
        reference_line(axes, x, f"{words}: {x:.2f}")
    return Panel(file_name(names[0], evaluation.path.name), f"{names[1]}, with 95 % intervals.", caption, figure)
