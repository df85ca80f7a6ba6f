"""Figures of a classification's predictions, alike for runs and evaluations: ROC, precision and recall, calibration.

Curves of several replicates or folds are means whose areas are the scores of the tables: see `metrics.auroc` (within
folds) and `metrics.average_precision` (folds pooled).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.calibration import calibration_curve
from neuro_ssl.evaluation.metrics import Array
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.panel import GREY, STYLE, Panel, annotate, file_name

OPERATING_POINTS = 24  # marked on a curve
SCANS_A_BIN = 10  # of a calibration curve, and 10 bins at most
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model predicts of test scans.

    Attributes:
        label: the model's name on figures.
        colour: of its marks; models of one colour differ in line style.
        table: see `evaluation.scores.predictions_of`: `subject_id`, `target`, `prediction`, maybe `scan_id`,
            `replicate`, `fold`; and, for tips, `age_years`, `sex`, `diagnosis`, `site`.
        score: the one that models are compared by.
    """

    label: str
    colour: str
    table: pd.DataFrame
    score: Score


@mpl.rc_context(STYLE)
def roc(title: str, models: Sequence[Predicted], positive: str) -> Panel:
    """ROC curves; of several replicates, or folds, the mean sensitivity at each specificity.

    A fold counts by its pairs of a positive and a negative scan (Fawcett 2006, Pattern Recognit Lett 27:861, section
    8.1: vertical averaging), and one without such a pair not at all.

    Args:
        title: what is predicted of whom, such as `Sex, cohort ixi`.
        models: of a classification, compared by AUROC.
        positive: the positive class.
    """
    figure, axes = _square("1 − specificity", "Sensitivity", len(models))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    for model, style in _styled(models):
        curves, weights = [], []
        for replicate in _parts(model.table, "replicate"):
            folds = [fold for fold in _parts(replicate, "fold") if fold["target"].nunique() > 1]
            pairs = [int(fold["target"].sum() * (1 - fold["target"]).sum()) for fold in folds]
            curves += [roc_curve(fold["target"], fold["prediction"]) for fold in folds]
            weights += [n / sum(pairs) for n in pairs]
        if not curves:
            continue
        false_positive, true_positive, threshold = curves[0]
        if len(curves) > 1:
            false_positive, true_positive = _mean_curve([(x, y) for x, y, _ in curves], weights)
        _curve(axes, model, style, false_positive, true_positive, "AUROC")
        if len(curves) == 1:
            tips = [
                f"{model.label}: sensitivity {y:.2f}, specificity {1 - x:.2f} at {cut:.2f}"
                for x, y, cut in zip(false_positive, true_positive, threshold, strict=True)
            ]
            _operating_points(axes, model, false_positive, true_positive, tips)
    _legend(figure, axes, "AUROC")
    return Panel(
        file_name(title, "roc"),
        f"{title}: ROC curves. {_scores(models, 'AUROC')}",
        f"ROC curves; positive class: {positive}.{_over_replicates(models, ('replicate', 'fold'))}",
        figure,
    )


@mpl.rc_context(STYLE)
def precision_recall(title: str, models: Sequence[Predicted], positive: str) -> Panel:
    """Precision by recall, in steps, whose area is the average precision; of several replicates the mean precision.

    Args:
        title: what is predicted of whom.
        models: of a classification, on the same scans.
        positive: the positive class, whose share of the scans is what guessing reaches (dashed).
    """
    figure, axes = _square("Recall (sensitivity)", "Precision (positive predictive value)", len(models))
    share = float(models[0].table["target"].mean())
    axes.axhline(share, color=GREY, linewidth=0.8, linestyle="--")
    for model, style in _styled(models):
        curves = [precision_recall_curve(t["target"], t["prediction"]) for t in _parts(model.table, "replicate")]
        grid = np.unique(np.concatenate([recall for _, recall, _ in curves]))[1:]  # without 0
        # Of several thresholds with one recall the highest counts, as in the average precision.
        steps = [precision[::-1][np.searchsorted(recall[::-1], grid - TINY)] for precision, recall, _ in curves]
        precision = np.mean(steps, axis=0)
        area = float(np.sum(np.diff(grid, prepend=0) * precision))
        x, y = np.append(0, grid), np.append(precision[0], precision)
        (line,) = axes.plot(x, y, style, color=model.colour, linewidth=1.4, drawstyle="steps-pre")
        line.set_label(f"{model.label}: {area:.2f}")
        annotate(line, tips=[f"{model.label}: average precision {area:.2f}"], series=model.label)
        tips = [f"{model.label}: precision {b:.2f}, recall {a:.2f}" for a, b in zip(x, y, strict=True)]
        _operating_points(axes, model, x, y, tips)
    _legend(figure, axes, "Average precision")
    return Panel(
        file_name(title, "precision recall"),
        f"{title}: precision by recall of {', '.join(model.label for model in models)}.",
        f"Precision and recall; {share:.0%} of the scans are {positive} (dashed), which guessing "
        f"reaches.{_over_replicates(models)}",
        figure,
    )


@mpl.rc_context(STYLE)
def calibration(title: str, models: Sequence[Predicted], positive: str) -> Panel:
    """Observed share of the positive class by predicted probability, in bins of as many scans each.

    Bars are Wilson's 95 % intervals on the number of subjects, see `evaluation.calibration`, whose table has the bins
    of equal width that belong to the ECE.

    Args:
        title: what is predicted of whom.
        models: of a classification.
        positive: the positive class.
    """
    figure, axes = _square(f"Predicted probability of {positive}", f"Observed share of {positive}", len(models))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    for model, style in _styled(models):
        n_bins = min(10, max(1, model.table["subject_id"].nunique() // SCANS_A_BIN))
        curve = calibration_curve(model.table, n_quantiles=n_bins)
        axes.vlines(curve["prediction"], curve["low"], curve["high"], color=model.colour, linewidth=1, alpha=0.45)
        (line,) = axes.plot(curve["prediction"], curve["observed"], style, color=model.colour, linewidth=1.2)
        line.set_label(model.label)
        annotate(line, series=model.label)
        tips = [
            f"{model.label}: predicted {predicted:.2f}, observed {format_score(Score(*observed))}, {n:.0f} subjects"
            for predicted, *observed, n in curve.to_numpy(float).tolist()
        ]
        _marks(axes, model, curve["prediction"].to_numpy(), curve["observed"].to_numpy(), tips, size=4.5)
    _legend(figure, axes, "Model")
    return Panel(
        file_name(title, "calibration"),
        f"{title}: observed share of {positive} by predicted probability, of "
        f"{', '.join(model.label for model in models)}.",
        "Calibration, in bins of as many scans each, with 95 % intervals; on the diagonal, a probability is what it "
        "says.",
        figure,
    )


def _parts(table: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """The rows of each value of a column; all together if it isn't there."""
    return [rows for _, rows in table.groupby(column, dropna=False)] if column in table else [table]


def _mean_curve(curves: Sequence[tuple[Array, Array]], weights: Sequence[float]) -> tuple[Array, Array]:
    """The weighted mean of curves y(x) with steps; on both sides of each step, so that areas average too."""
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    points = np.stack([grid - TINY, grid + TINY], axis=1).ravel()
    return np.repeat(grid, 2), np.average([np.interp(points, x, y) for x, y in curves], axis=0, weights=weights)


def _styled(models: Sequence[Predicted]) -> Iterator[tuple[Predicted, str]]:
    """Each with a line style; models of one colour differ in it."""
    drawn: list[str] = []
    for model in models:
        yield model, ("-", "--", ":", "-.")[drawn.count(model.colour) % 4]
        drawn.append(model.colour)


def _square(xlabel: str, ylabel: str, n_models: int) -> tuple[Figure, Axes]:
    """Axes from 0 to 1, with room for the legend below."""
    figure = Figure(figsize=(3.9, 4.1 + 0.18 * n_models), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", title=title, alignment="left")


def _curve(axes: Axes, model: Predicted, style: str, x: Array, y: Array, metric: str) -> None:
    (line,) = axes.plot(x, y, style, color=model.colour, linewidth=1.4, label=f"{model.label}: {model.score.value:.2f}")
    annotate(line, tips=[f"{model.label}: {metric} {format_score(model.score)}"], series=model.label)


def _operating_points(axes: Axes, model: Predicted, x: Array, y: Array, tips: Sequence[str]) -> None:
    """Marks on a curve, without its ends, where there are not too many to point at."""
    chosen = slice(1, -1, max(1, len(x) // OPERATING_POINTS))
    _marks(axes, model, x[chosen], y[chosen], tips[chosen], size=2.5)


def _marks(axes: Axes, model: Predicted, x: Array, y: Array, tips: Sequence[str], size: float) -> None:
    if len(x):
        (marks,) = axes.plot(x, y, "o", color=model.colour, markersize=size, markeredgewidth=0)
        annotate(marks, tips=tips, series=model.label)


def _scores(models: Sequence[Predicted], metric: str) -> str:
    return "; ".join(f"{model.label}: {metric} {format_score(model.score)}" for model in models) + "."


def _over_replicates(models: Sequence[Predicted], columns: Sequence[str] = ("replicate",)) -> str:
    """A sentence for the captions of curves on what is averaged; nothing where nothing is."""
    several = any(model.table[column].nunique() > 1 for model in models for column in columns if column in model.table)
    words = "seeds, repetitions or folds" if "fold" in columns else "seeds or repetitions"
    return f" Where a model has several {words}, a curve is their mean." if several else ""
