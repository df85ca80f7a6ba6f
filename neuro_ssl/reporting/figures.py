"""The report's figures: small panels, each an image in itself, which the page flows into as many columns as fit.

Colours are Okabe & Ito's (jfly.uni-koeln.de/color), which colour-blind readers can tell apart; each way of training
keeps its colour on every figure. Drawn with matplotlib's Agg and SVG back ends, without pyplot and its global state.
"""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuro_ssl.reporting.agreement_figures import bland_altman, limits_of, predicted_vs_true
from neuro_ssl.reporting.panel import COLOURS, GREY, STYLE, Panel, file_name
from neuro_ssl.reporting.prediction_figures import Predicted, calibration, precision_recall, roc
from neuro_ssl.reporting.runs import PretrainingRun, Run
from neuro_ssl.reporting.tables import TaskGroup, baseline_row, format_score, task_rows

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
PRETRAINING_LABELS = {
    "loss": "Loss",
    "contrastive_loss": "Contrastive loss",
    "reconstruction_loss": "Reconstruction loss",
    "contrastive_accuracy": "Contrastive accuracy",
    "rankme": "RankMe (effective rank)",
    "embedding_sd": "Spread of embedding directions",
}


COST = ("representation/seconds", "representation/share_of_time")
CURVES = {  # before a metric's name, and how it is drawn
    "train/": ("--", "training (dashed)"),
    "val/": ("-", "validation (solid)"),
    "": ("-", "frozen features of validation scans"),  # the metric has its group in its name
}


@mpl.rc_context(STYLE)
def forest(group: TaskGroup) -> Panel:
    """Primary scores with their intervals, one line a model; dashed the baseline, dotted the paper's best."""
    rows = [row for row in task_rows(group) if not math.isnan(row.scores[0].value) or not row.is_paper]
    baseline, paper = baseline_row(rows), next((row for row in rows if row.is_paper), None)
    figure = Figure(figsize=(4.8, 0.75 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        score = row.scores[0]
        colour = MODEL_COLOURS[row.run.model] if row.run else GREY
        if not math.isnan(score.low):
            axes.plot([score.low, score.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(score.value, y, "o" if row.run else "*" if row.is_paper else "D", color=colour, markersize=6)
    axes.axvline(baseline.scores[0].value, color=GREY, linestyle="--", linewidth=0.8, zorder=0)
    if paper:
        axes.axvline(paper.scores[0].value, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    names = [group.name(row.run) if row.run else row.model if row.is_paper else "Baseline" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    better = "higher" if group.metrics[group.primary].higher_is_better else "lower"
    axes.set_xlabel(f"{group.label(group.primary)}, {better} is better")
    listed = "; ".join(f"{row.model} {format_score(row.scores[0])}" for row in rows)
    return Panel(
        file_name(group.title, group.dataset.cohort, "scores"),
        f"{group.title}: {group.label(group.primary)} with 95 % intervals. {listed}.",
        f"Test scores with 95 % intervals. {baseline.model} (dashed)."
        + (f" {paper.model}: on {paper.details[-1]} (dotted)." if paper else ""),
        figure,
    )


def predictions(group: TaskGroup) -> list[Panel]:
    """What all runs of the group predict of the test split; runs of one model differ in line style."""
    models = [
        Predicted(group.name(run), MODEL_COLOURS[run.model], run.predictions, run.results.scores[group.primary].score)
        for run in group.runs
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


def pretraining_curves(runs: Sequence[PretrainingRun]) -> list[Panel]:
    """One panel for each metric of training and validation, and each of the frozen features."""
    logged = {str(name) for run in runs for name in run.metrics["metric"]}
    names = sorted({name.partition("/")[2] for name in logged if name.startswith(("train/", "val/"))})
    names += sorted(name for name in logged if name.startswith("representation/") and name not in COST)
    known = [name for name in PRETRAINING_LABELS if name in names]
    labelled = [(run, run.info.name, COLOURS[i % len(COLOURS)]) for i, run in enumerate(runs)]
    # What SimCLR scores when it can't tell a view's partner from the 2·batch − 2 other views.
    chance = {}
    if {run.info.task for run in runs} == {"simclr"} and len(batches := {run.info.batch_size for run in runs}) == 1:
        candidates = 2 * batches.pop() - 1
        chance = {"loss": math.log(candidates), "contrastive_accuracy": 1 / candidates}
    return [
        _curves(labelled, name, PRETRAINING_LABELS.get(name, name), "Pretraining", chance.get(name))
        for name in known + [name for name in names if name not in known]
    ]


def downstream_curves(group: TaskGroup) -> list[Panel]:
    """Loss and the primary metric of each run of the group."""
    labelled = [(run, group.name(run), MODEL_COLOURS[run.model]) for run in group.runs]
    logged = {name.partition("/")[2] for run in group.runs for name in run.metrics["metric"]}
    labels = {"loss": "Loss", group.primary: group.label(group.primary)}
    return [_curves(labelled, name, label, group.title) for name, label in labels.items() if name in logged]


@mpl.rc_context(STYLE)
def _curves(
    labelled: Sequence[tuple[Run, str, str]], name: str, label: str, title: str, chance: float | None = None
) -> Panel:
    """Means over each epoch."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.subplots()
    splits = set()
    for run, run_label, colour in labelled:
        for split, (style, _) in CURVES.items():
            rows = run.metrics[run.metrics["metric"] == split + name].dropna(subset=["epoch", "value"])
            if rows.empty:
                continue
            curve = rows.groupby("epoch")["value"].mean()
            marker = "o" if len(curve) == 1 else ""
            axes.plot(curve.index + 1, curve, style, color=colour, marker=marker, markersize=4, linewidth=1.4)
            splits.add(split)
        axes.plot([], [], color=colour, label=run_label)
    if chance is not None:
        axes.axhline(chance, color=GREY, linestyle=":", label="chance, about")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="Epoch", ylabel=label)
    axes.legend(loc="best")
    lines = " and ".join(words for split, (_, words) in CURVES.items() if split in splits)
    alt = f"{title}: {label} by epoch, {lines}."
    return Panel(file_name(title, name, "by epoch"), alt, f"{label}: {lines}", figure)


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
