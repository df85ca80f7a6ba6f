"""Metrics by epoch, of pretraining and of training on tasks."""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuro_ssl.reporting.panel import COLOURS, GREY, STYLE, Panel, annotate, file_name
from neuro_ssl.reporting.runs.models import TaskGroup
from neuro_ssl.reporting.runs.reading import PretrainingRun, Run

LABELS = {  # of pretraining, in this order
    "loss": "Loss",
    "contrastive_loss": "Contrastive loss",
    "reconstruction_loss": "Reconstruction loss",
    "contrastive_accuracy": "Contrastive accuracy",
    "rankme": "RankMe (effective rank)",
    "embedding_sd": "Spread of embedding directions",
    "representation/rankme": "RankMe of frozen features",
    "representation/alignment": "Alignment of views, lower is closer",
    "representation/uniformity": "Uniformity, lower is more even",
    "representation/contrastive_accuracy": "Contrastive accuracy of frozen features",
}
LOSSES = "Loss"
HEALTH = "Health of the representation: does it keep telling scans apart?"
PROBED = "What frozen features know: probes fitted on training subjects, scored on validation subjects"
PROBES = {"knn": ("--", "nearest neighbours"), "ridge": ("-", "ridge"), "logistic": ("-", "logistic")}
SCORES = {"mae": "MAE", "auroc": "AUROC"}
SPLITS = {"train/": ("--", "training"), "val/": ("-", "validation")}
STYLES = {"-": "solid", "--": "dashed"}
COST = ("representation/seconds", "representation/share_of_time")  # isn't about the representation
TIPS_A_LINE = 50
FEW_POINTS = 12  # which are marked
LABEL_WIDTH = 32  # characters of an axis label in a line


@dataclass(frozen=True)
class Line:
    """One metric of a panel: its name in `metrics.csv`, how it is drawn, and what it is."""

    metric: str
    style: str
    words: str


@dataclass(frozen=True)
class Reference:
    """A horizontal line: where, how it is drawn, and what it is."""

    value: float
    style: str
    words: str


@dataclass(frozen=True)
class Drawn:
    """A run on a figure; those of one series share the legend's entry and are highlighted together."""

    run: Run
    name: str
    series: str
    colour: str


def pretraining_curves(runs: Sequence[PretrainingRun]) -> dict[str, list[Panel]]:
    """One panel a metric, by heading: losses, health of the representation, probes of frozen features by target."""
    drawn = [Drawn(run, run.info.name, run.info.name, COLOURS[i % len(COLOURS)]) for i, run in enumerate(runs)]
    grouped: dict[str, list[Panel]] = {LOSSES: [], HEALTH: [], PROBED: []}
    for name, (label, lines) in _metrics(_logged(drawn)).items():
        heading = LOSSES if name.endswith("loss") else PROBED if name not in LABELS and "/" in name else HEALTH
        # Losses of different tasks have no common scale.
        tasks = sorted({run.info.task for run in runs}) if heading == LOSSES else [""]
        for task in tasks:
            of_task = [one for one in drawn if one.run.info.task == task] if task else drawn
            if not _logged(of_task) & {line.metric for line in lines}:
                continue
            title = f"{label} ({task})" if len(tasks) > 1 else label
            file = f"Pretraining {name} {task if len(tasks) > 1 else ''}"
            grouped[heading].append(_panel(of_task, lines, title, file, "Pretraining", _chance(of_task, name, label)))
    return {heading: panels for heading, panels in grouped.items() if panels}


def _logged(drawn: Sequence[Drawn]) -> set[str]:
    """The metrics that any of the runs has."""
    return {str(name) for one in drawn for name in one.run.metrics["metric"]}


def _chance(drawn: Sequence[Drawn], name: str, label: str) -> list[Reference]:
    """What knowing nothing scores, where that is known and the same for all runs."""
    if label.endswith(SCORES["auroc"]):
        return [Reference(0.5, ":", "chance")]
    batches = {one.run.info.batch_size for one in drawn}
    if {one.run.info.task for one in drawn} != {"simclr"} or len(batches) > 1:
        return []
    candidates = 2 * batches.pop() - 1  # the partner of a view, and the 2·batch − 2 other views
    chance = {"loss": math.log(candidates), "contrastive_accuracy": 1 / candidates}
    return [Reference(chance[name], ":", "chance, about")] if name in chance else []


def _metrics(logged: Collection[str]) -> dict[str, tuple[str, list[Line]]]:
    """Panels of pretraining by name, with label and lines: the splits of a metric, or the probes of a target."""
    panels: dict[str, tuple[str, list[Line]]] = {}
    for metric in sorted(logged):  # training before validation, nearest neighbours before ridge or logistic
        group, _, name = metric.partition("/")
        if f"{group}/" in SPLITS:
            panels.setdefault(name, (LABELS.get(name, name), []))[1].append(Line(metric, *SPLITS[f"{group}/"]))
        elif metric in LABELS:
            panels[metric] = (LABELS[metric], [Line(metric, "-", "validation scans")])
        elif group == "representation" and metric not in COST:
            target, probe, score = [*name.rsplit("_", 2), "", ""][:3]
            quantity, years, _ = target.partition("_years")
            words = quantity[:1].upper() + quantity[1:].replace("_", " ")
            label = f"{words}: {SCORES.get(score, score)}{' (years)' if years else ''}"
            line = Line(metric, *PROBES.get(probe, ("-", probe)))
            panels.setdefault(f"representation/{target}_{score}", (label, []))[1].append(line)
    order = [*LABELS, *sorted(name for name in panels if name not in LABELS)]
    return {name: panels[name] for name in order if name in panels}


def task_curves(group: TaskGroup, colours: Mapping[str, str]) -> list[Panel]:
    """Loss and the primary metric of each run of the group, dotted the paper's score.

    Args:
        group: the task.
        colours: by `DownstreamRun.model`.
    """
    drawn = [
        Drawn(run, group.name(run), model.name, colours[run.model]) for model in group.models for run in model.runs
    ]
    logged = {str(name) for run in group.runs for name in run.metrics["metric"]}
    panels = []
    for name, label in {"loss": "Loss", group.primary: group.label(group.primary)}.items():
        lines = [Line(split + name, *how) for split, how in SPLITS.items() if split + name in logged]
        references = []
        if (paper := group.reference) and paper.metric == name:
            value = paper.fine_tuned if paper.fine_tuned is not None else paper.from_scratch
            if value is not None:
                references = [Reference(value, "-.", f"paper, test scans of {paper.cohort.upper()}")]
        if lines:
            panels.append(_panel(drawn, lines, label, f"{group.title} {name}", group.title, references))
    return panels


@mpl.rc_context(STYLE)
def _panel(
    drawn: Sequence[Drawn], lines: Sequence[Line], label: str, name: str, title: str, references: Sequence[Reference]
) -> Panel:
    """Means over each epoch."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for one in drawn:
        for line in lines:
            _curve(axes, one, line, label)
    metrics = {line.metric for line in lines}
    for series, colour in {one.series: one.colour for one in drawn if _logged([one]) & metrics}.items():
        axes.plot([], [], color=colour, label=series)
    for reference in references:
        annotate(
            axes.axhline(reference.value, color=GREY, linestyle=reference.style, label=reference.words),
            tips=[f"{reference.words}: {reference.value:.4g}"],
        )
    axes.set_xlim(0.5, max(2, *(_last_epoch(one.run) for one in drawn)) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="Epoch", ylabel=textwrap.fill(label, LABEL_WIDTH))
    axes.legend(loc="best")
    words = " and ".join(f"{line.words} ({STYLES[line.style]})" for line in lines)
    return Panel(file_name(name, "by epoch"), f"{title}: {label} by epoch, {words}.", f"{label}: {words}", figure)


def _curve(axes: Axes, one: Drawn, line: Line, label: str) -> None:
    rows = one.run.metrics[one.run.metrics["metric"] == line.metric].dropna(subset=["epoch", "value"])
    if rows.empty:
        return
    curve = rows.groupby("epoch")["value"].mean()
    epochs, values = curve.index.to_numpy(float) + 1, curve.to_numpy(float)
    marker = "o" if len(curve) <= FEW_POINTS else ""
    (drawn,) = axes.plot(epochs, values, line.style, color=one.colour, marker=marker, markersize=3.5, linewidth=1.4)
    annotate(drawn, series=one.series)
    shown = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), TIPS_A_LINE)).round().astype(int))
    (points,) = axes.plot(epochs[shown], values[shown], linestyle="none")
    tips = [
        f"{one.name}\n{label}, {line.words}, epoch {epoch:.0f}: {value:.4g}"
        for epoch, value in zip(epochs[shown], values[shown], strict=True)
    ]
    annotate(points, tips=tips, series=one.series)


def _last_epoch(run: Run) -> float:
    """Counted from 1."""
    return float(run.metrics["epoch"].max()) + 1
