"""Figures of evaluations, all numbers from their tables: scores of every model, also by share of the labels and by
subgroup, calibration, age gaps, reliability, and what embeddings know of the site.

A role has its colour, and each pretrained encoder one of its own; protocols differ by marker.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.evaluations.lines import (
    MARKERS,
    TRAINED,
    Line,
    colour_of,
    name_of,
    protocols_in,
    score_of,
    title_of,
)
from neuro_ssl.reporting.evaluations.reading import Tested
from neuro_ssl.reporting.evaluations.verdicts import protocol_in_words
from neuro_ssl.reporting.forest import Mark, forest, reference_line
from neuro_ssl.reporting.panel import GREY, STYLE, Panel, annotate


@mpl.rc_context(STYLE)
def scores(tested: Tested) -> Panel:
    """The primary metric of every line, by model; intervals over subjects thick, over seeds thin."""
    table = tested.table("scores").query("metric == @tested.primary")
    constant, table = table[table["role"] == "constant"], table[table["role"] != "constant"]
    blocks = {}
    for model, lines in table.groupby("model", sort=False):
        name, colour = tested.evaluation.names[str(model)], colour_of(tested.evaluation, str(model))[0]
        blocks[name + _dagger(tested, str(model))] = [
            [
                Mark(
                    score_of(row),
                    colour,
                    MARKERS[row["protocol"]],
                    _score_tip(tested, row),
                    name,
                    seeds=(row["seeds_low"], row["seeds_high"]),
                )
            ]
            for row in lines.to_dict("records")
        ]
    better = "higher" if tested.metric.higher_is_better else "lower"
    figure, axes = forest(blocks, f"{tested.label()}, {better} is better", protocols_in(table), columns=3)
    for row in constant.to_dict("records"):
        reference_line(axes, row["value"], _score_tip(tested, row))
    if reference := tested.reference:
        reference_line(axes, reference.fine_tuned, f"{_paper(tested)}: {reference.fine_tuned:g}", ":")
        axes.text(reference.fine_tuned, -0.8, "paper", ha="center", va="bottom", fontsize=8)
    return Panel(
        name_of(tested, "scores"),
        f"{title_of(tested)}: {tested.label()} of {len(table)} lines with 95 % intervals; all in the table below.",
        _scores_caption(tested, constant),
        figure,
    )


def _scores_caption(tested: Tested, constant: pd.DataFrame) -> str:
    parts = ["Thick: 95 % interval over people; thin, black: over seeds."]
    if len(constant):
        what = "majority" if tested.kind == "classification" else "mean"
        parts.append(f"Dashed: always the training scans' {what}, {constant['value'].iloc[0]:.2f}.")
    if reference := tested.reference:
        parts.append(f"Dotted: {_paper(tested)}, {reference.fine_tuned:g}.")
    if any(_dagger(tested, model.name) for model in tested.evaluation.encoders):
        parts.append("†: it has seen some of these people, or that is unknown; see Leakage in the table.")
    return " ".join(parts)


def _paper(tested: Tested) -> str:
    assert tested.reference is not None
    return f"fine-tuned SimCLR of Kaczmarek et al. 2025 on its own test scans of {tested.reference.cohort.upper()}"


def _dagger(tested: Tested, model: str) -> str:
    one = next(one for one in tested.evaluation.info.models if one.name == model)
    leakage = one.leakage.get(tested.test_set)
    return " †" if one.role == "pretrained" and leakage and leakage.verdict != "disjoint" else ""


def label_efficiency(tested: Tested) -> list[Panel]:
    """A panel a protocol: the primary metric by the number of training scans, a line a model."""
    table = tested.table("label_efficiency")
    if table.empty:
        return []
    table = table[table["metric"] == tested.primary]
    trained = table["protocol"].isin(TRAINED)
    groups = {str(name): rows for name, rows in table[~trained].groupby("protocol", sort=False)}
    constant = groups.pop("constant", table.iloc[:0]).sort_values("fraction")
    groups["finetune"] = table[trained]
    return [
        _efficiency(tested, protocol, rows, constant)
        for protocol, rows in groups.items()
        if rows["fraction"].nunique() > 1
    ]


@mpl.rc_context(STYLE)
def _efficiency(tested: Tested, protocol: str, table: pd.DataFrame, constant: pd.DataFrame) -> Panel:
    figure = Figure(figsize=(3.8, 3.7), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.plot(constant["n_train"], constant["value"], "--", color=GREY, linewidth=0.9, zorder=0)
    for (model, own), rows in table.groupby(["model", "protocol"], sort=False):
        rows = rows.sort_values("fraction")
        colour, style = colour_of(tested.evaluation, str(model))
        name = tested.evaluation.names[str(model)]
        axes.fill_between(rows["n_train"], rows["low"], rows["high"], color=colour, alpha=0.09, linewidth=0)
        (line,) = axes.plot(rows["n_train"], rows["value"], style, color=colour, linewidth=1.5, label=name)
        annotate(line, series=name)
        (marks,) = axes.plot(rows["n_train"], rows["value"], MARKERS[str(own)], color=colour, markersize=4.5)
        tips = [
            f"{name}, {100 * row['fraction']:g} % of the people, {row['n_train']} scans: {tested.metric.label} "
            f"{format_score(score_of(row))}"
            for row in rows.to_dict("records")
        ]
        annotate(marks, tips=tips, series=name)
    sizes = sorted(set(table["n_train"]))
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    words = "fine-tuned, and from scratch" if protocol == "finetune" else protocol_in_words(protocol)
    axes.set(xlabel="Training scans", ylabel=tested.label(), title=words[0].upper() + words[1:])
    figure.legend(loc="outside lower center", ncols=2)
    return Panel(
        name_of(tested, "label efficiency", protocol),
        f"{title_of(tested)}, {words}: {tested.label()} by number of training scans.",
        "Bands: 95 % intervals over people. Dashed grey: always the training scans' mean or majority.",
        figure,
    )


@mpl.rc_context(STYLE)
def calibration(tested: Tested, lines: Sequence[Line]) -> Panel:
    """Observed share of the positive class by predicted probability, a part of the figure a line."""
    table, positive = tested.table("calibration"), tested.positive
    n_rows = -(-len(lines) // 2)
    figure = Figure(figsize=(3.9, 0.5 + 2.0 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, 2, sharex=True, sharey=True, squeeze=False)
    for axes, line in zip(grid.flat, lines, strict=False):
        rows, (colour, _) = line.of(table), colour_of(tested.evaluation, line.model)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, zorder=0)
        axes.vlines(rows["prediction"], rows["low"], rows["high"], color=colour, linewidth=1.4, alpha=0.4)
        sizes = 60 * rows["n_subjects"] / rows["n_subjects"].max()
        marks = axes.scatter(rows["prediction"], rows["observed"], s=sizes, color=colour, linewidth=0, zorder=3)
        tips = [
            f"{line.label}: predicted {row['prediction']:.2f}, observed "
            f"{format_score(Score(row['observed'], row['low'], row['high']))}, {row['n_subjects']} people"
            for row in rows.to_dict("records")
        ]
        annotate(marks, tips=tips, series=line.label)
        axes.set_title(line.label.replace(", ", "\n"), fontsize=8.5)
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for axes in grid.flat[len(lines) :]:
        axes.set_visible(False)
    figure.supxlabel(f"Predicted probability of {positive}", fontsize=10)
    figure.supylabel(f"Observed share of {positive}", fontsize=10)
    return Panel(
        name_of(tested, "calibration"),
        f"{title_of(tested)}: observed share of {positive} by predicted probability.",
        "Calibration, in the ten bins of the ECE, with 95 % intervals: on the diagonal, a probability is what it says. "
        "A mark's area is the number of people in the bin.",
        figure,
    )


def _score_tip(tested: Tested, row: Mapping[Any, Any]) -> str:
    seeds = ""
    if not np.isnan(row["seeds_low"]):
        seeds = f"; over {row['n_seeds']} seeds [{row['seeds_low']:.2f}, {row['seeds_high']:.2f}]"
    words = dict.fromkeys([tested.evaluation.names[row["model"]], protocol_in_words(row["protocol"])])
    return f"{', '.join(words)}: {tested.label()} {format_score(score_of(row))}{seeds}"
