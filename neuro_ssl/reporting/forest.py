"""A forest plot: scores as marks with their intervals, a line each, in labelled blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.panel import GREY, annotate

INK = "#1b1b1b"
LINE_INCHES, GAP = 0.155, 0.75  # height of a line, and space between blocks in lines


@dataclass(frozen=True)
class Mark:
    """One score.

    Attributes:
        score: with its interval, drawn thick.
        colour: of both.
        marker: of matplotlib.
        tip: what it says when it is pointed at.
        series: marks of one are highlighted together.
        filled: or hollow.
        seeds: interval over seeds, drawn thin; nan if there is none.
    """

    score: Score
    colour: str
    marker: str
    tip: str
    series: str
    filled: bool = True
    seeds: tuple[float, float] = (np.nan, np.nan)


Blocks = Mapping[str, Sequence[Sequence[Mark]]]  # by label, the marks of each line


def forest(blocks: Blocks, xlabel: str, legend: Mapping[str, tuple[str, str]], columns: int = 1) -> tuple[Figure, Axes]:
    """Draw one, as wide as a phone.

    Args:
        blocks: from top to bottom.
        xlabel: of the scores.
        legend: of each entry marker and colour.
        columns: of the legend.
    """
    n_lines = sum(map(len, blocks.values()))
    legend_lines = -(-len(legend) // columns)
    height = (n_lines + GAP * len(blocks)) * LINE_INCHES + 0.6 + 0.19 * legend_lines
    figure = Figure(figsize=(4.8, height), layout="constrained")
    axes = figure.subplots()
    ticks, y = [], 0.0
    for lines in blocks.values():
        for place, marks in enumerate(lines):
            for mark in marks:
                _draw(axes, y + place, mark)
        ticks.append(y + (len(lines) - 1) / 2)
        y += len(lines) + GAP
    axes.set_yticks(ticks, list(blocks), fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(y - GAP - 0.2, -0.8)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel)
    handles = [
        Line2D([], [], color=colour, linestyle="", marker=marker, markersize=5, label=label)
        for label, (marker, colour) in legend.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure, axes


def reference_line(axes: Axes, x: float, tip: str, style: str = "--") -> None:
    """A vertical line behind the marks."""
    line = axes.axvline(x, color=INK if style == ":" else GREY, linestyle=style, linewidth=1.1, zorder=1.5)
    annotate(line, tips=[tip])


def _draw(axes: Axes, y: float, mark: Mark) -> None:
    if np.isnan(mark.score.value):
        return
    if not np.isnan(mark.score.low):
        (bar,) = axes.plot([mark.score.low, mark.score.high], [y, y], color=mark.colour, linewidth=4, alpha=0.4)
        bar.set_solid_capstyle("butt")
    if not np.isnan(mark.seeds[0]):
        axes.plot(mark.seeds, [y, y], "|-", color=INK, linewidth=0.8, markersize=5, zorder=3)
    face = mark.colour if mark.filled else "white"
    (point,) = axes.plot(mark.score.value, y, mark.marker, color=mark.colour, markersize=5, mfc=face, zorder=4)
    annotate(point, tips=[mark.tip], series=mark.series)
