"""The report's figures: small panels, each an image in itself, which the page flows into as many columns as fit.

Colours are Okabe & Ito's (jfly.uni-koeln.de/color), which colour-blind readers can tell apart; each way of training
keeps its colour on every figure. Drawn with matplotlib's Agg and SVG back ends, without pyplot and its global state.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuro_ssl.reporting.agreement_figures import bland_altman, limits_of, predicted_vs_true
from neuro_ssl.reporting.cells import format_score, over_seeds
from neuro_ssl.reporting.panel import GREY, STYLE, Panel, annotate, file_name
from neuro_ssl.reporting.prediction_figures import Predicted, calibration, precision_recall, roc
from neuro_ssl.reporting.runs.models import Model, TaskGroup
from neuro_ssl.reporting.runs.reading import PretrainingRun
from neuro_ssl.reporting.runs.tables import Row, baseline_row

MODEL_COLOURS = {
    "Fine-tuned": "#0072B2",
    "From scratch": "#D55E00",
    "Linear probe, pretrained": "#009E73",
    "Linear probe, untrained": "#E69F00",
    "Fine-tuned, multi-task": "#56B4E9",
    "From scratch, multi-task": "#CC79A7",
    "Linear probe, pretrained, multi-task": "#000000",
    "Linear probe, untrained, multi-task": "#F0E442",
}
NAME_WIDTH = 34  # characters of a model's name in a line


def colour_of(model: Model) -> str:
    """By how it came about."""
    return MODEL_COLOURS[model.runs[0].model]


@mpl.rc_context(STYLE)
def forest(group: TaskGroup, rows: Sequence[Row]) -> Panel:
    """Primary scores with their intervals, one line a model; dashed the baseline, dotted the paper's best.

    Of several seeds the mean with its interval over subjects (thick) and over seeds (thin), and each seed's score.

    Args:
        group: the task.
        rows: see `tables.task_rows`.
    """
    rows = [row for row in rows if not math.isnan(row.scores[0].value) or not row.is_paper]
    baseline, paper = baseline_row(rows), next((row for row in rows if row.is_paper), None)
    names = [textwrap.wrap(row.name if row.model or row.is_paper else "Baseline", NAME_WIDTH) for row in rows]
    n_lines = sum(max(len(name), 1) for name in names)
    figure = Figure(figsize=(4.8, 0.75 + 0.3 * len(rows) + 0.12 * (n_lines - len(rows))), layout="constrained")
    axes = figure.subplots()
    label = group.label(group.primary)
    for y, row in enumerate(rows):
        score, series = row.scores[0], row.name
        colour = colour_of(row.model) if row.model else GREY
        tip = f"{row.name}\n{label} {format_score(score)}"
        if row.over_seeds:
            over = over_seeds(row.over_seeds[0]).replace(" seeds", ", over them")
            tip += f"\nmean of {len(row.model.runs) if row.model else 0} seeds{over}"
            _seeds(axes, group, row, y)
        if not math.isnan(score.low):
            (bar,) = axes.plot([score.low, score.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
            annotate(bar, tips=[tip], series=series)
        marker = "o" if row.model else "*" if row.is_paper else "D"
        annotate(axes.plot(score.value, y, marker, color=colour, markersize=6)[0], tips=[tip], series=series)
    for reference, style, width in ((baseline, "--", 0.8), (paper, ":", 1.2)):
        if reference:
            line = axes.axvline(reference.scores[0].value, color=GREY, linestyle=style, linewidth=width, zorder=0)
            annotate(line, tips=[f"{reference.name}\n{label} {format_score(reference.scores[0])}"])
    axes.set_yticks(range(len(rows)), ["\n".join(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    better = "higher" if group.metrics[group.primary].higher_is_better else "lower"
    axes.set_xlabel(f"{label}, {better} is better")
    listed = "; ".join(f"{row.name} {format_score(row.scores[0])}" for row in rows)
    seeds = " Of several seeds the mean, thin its interval over seeds, small each seed."
    return Panel(
        file_name(group.title, group.dataset.cohort, "scores"),
        f"{group.title}: {label} with 95 % intervals. {listed}.",
        f"Test scores with 95 % intervals over subjects.{seeds if any(row.over_seeds for row in rows) else ''} "
        f"{baseline.name} (dashed)." + (f" {paper.name}: on {paper.details[-1]} (dotted)." if paper else ""),
        figure,
    )


def _seeds(axes: Axes, group: TaskGroup, row: Row, y: float) -> None:
    """A little below the row: the seeds' scores, and the interval over them."""
    assert row.model
    below, mean = y + 0.27, row.over_seeds[0]
    if not math.isnan(mean.low):
        (bar,) = axes.plot([mean.low, mean.high], [below, below], color=GREY, linewidth=0.8)
        annotate(bar, tips=[f"{row.name}\n95 % interval over seeds {format_score(mean)}"], series=row.name)
    scores = [run.results.scores[group.primary].score for run in row.model.runs]
    (points,) = axes.plot([score.value for score in scores], [below] * len(scores), "o", color=GREY, markersize=2.5)
    tips = [
        f"{row.name}, seed {seed}\n{group.label(group.primary)} {format_score(score)}"
        for seed, score in zip(row.model.seeds, scores, strict=True)
    ]
    annotate(points, tips=tips, series=row.name)


def predictions(group: TaskGroup) -> list[Panel]:
    """What all models of the group predict of the test split; several of one kind differ in line style."""
    models = [
        Predicted(model.name, colour_of(model), model.predictions, model.scores[group.primary])
        for model in group.models
    ]
    title = f"{group.title}, cohort {group.dataset.cohort}"
    if group.kind == "classification":
        positive = str(group.runs[0].results.positive_class)
        return [draw(title, models, positive) for draw in (roc, precision_recall, calibration)]
    limits, metric = limits_of(models), group.label(group.primary)
    return [
        *(predicted_vs_true(title, model, limits, group.unit, metric) for model in models),
        *(bland_altman(title, model, group.unit) for model in models),
    ]


@mpl.rc_context(STYLE)
def views(run: PretrainingRun) -> list[Panel]:
    """For each example scan, the middle slices of the original and its views."""
    panels = []
    for i in range(len(run.views["original"])):
        rows = [middle_slices(array[i]) for array in run.views.values()]
        figure = Figure(figsize=(4.2, 1.4 * len(rows)), facecolor="black", layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=1)
        axes.set_xticks((np.arange(3) + 0.5) * len(rows[0]), ["axial", "coronal", "sagittal"])
        names = [name.replace("view", "view ") for name in run.views]
        axes.set_yticks((np.arange(len(rows)) + 0.5) * len(rows[0]), names, rotation=90, va="center")
        axes.tick_params(length=0, labelcolor="white", labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        panels.append(
            Panel(
                file_name(run.info.name, "views", i + 1),
                f"Scan {i + 1} of {run.info.name}: axial, coronal and sagittal middle slices of the original and of "
                f"{'the two views' if len(rows) > 2 else 'the view'} that the encoder learns from.",
                f"Scan {i + 1}",
                figure,
            )
        )
    return panels


def reconstructions(run: PretrainingRun) -> list[Panel]:
    """What a masked autoencoder made of validation scans; none of other tasks."""
    if run.reconstructions is None:
        return []
    return [
        Panel(
            file_name(run.info.name, "reconstructions"),
            f"Validation scans of {run.info.name}: the original, the patches that the encoder sees, the reconstruction "
            "of the masked ones, and its error, in axial, coronal and sagittal middle slices.",
            "Masked patches, and what the decoder makes of them",
            run.reconstructions,
        )
    ]


def middle_slices(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Axial, coronal and sagittal side by side, in 0 to 1, padded to squares.

    `volume` (z, y, x), axes towards S, A, R; on the picture up is A or S, and left is left (or posterior).
    """
    brain = volume[volume != 0]
    low, high = np.percentile(brain, [1, 99]) if brain.size else (0.0, 1.0)
    # Standardised views have negative voxels, so a background of 0 would show as mid-grey.
    shown = np.where(volume == 0, 0, np.clip((volume - low) / max(high - low, 1e-6), 0, 1))
    side = max(volume.shape)
    squares = []
    for image in middle_planes(shown).values():
        before = [(side - size) // 2 for size in image.shape]
        padding = [(b, side - size - b) for b, size in zip(before, image.shape, strict=True)]
        squares.append(np.pad(image, padding))
    return np.concatenate(squares, axis=1)


def middle_planes(volume: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """The middle slices as pictures, whose rows run downward: up is A or S, and left is left (or posterior).

    `volume` (z, y, x), axes towards S, A, R.
    """
    z, y, x = (size // 2 for size in volume.shape)
    return {"axial": volume[z, ::-1], "coronal": volume[::-1, y], "sagittal": volume[::-1, :, x]}
