"""Figures of a regression's predictions, alike for runs and evaluations: predicted against true, and agreement."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuro_ssl.evaluation.agreement import limits_of_agreement
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.panel import GREY, STYLE, Panel, annotate, file_name
from neuro_ssl.reporting.prediction_figures import Predicted

MAX_MARKS = 600  # points that can be pointed at; more are drawn as one picture, or the page grows by megabytes
TIPS = {"sex": "{}", "diagnosis": "{}", "site": "site {}"}  # what else is said of a scan; never an id


@mpl.rc_context(STYLE)
def predicted_vs_true(
    title: str, model: Predicted, limits: tuple[float, float], unit: str | None, metric: str
) -> Panel:
    """Predicted against true value of each scan, with the identity line.

    Args:
        title: what is predicted of whom.
        model: of a regression; the prediction of a scan is the mean over replicates.
        limits: of both axes, see `limits_of`.
        unit: of the target.
        metric: name of the score, such as `MAE (years)`.
    """
    scans = scans_of(model.table)
    units = f" ({unit})" if unit else ""
    figure = Figure(figsize=(3.1, 3.3), layout="constrained")
    axes = figure.subplots()
    axes.plot(limits, limits, color=GREY, linewidth=0.8)
    _cloud(axes, model, scans["target"], scans["prediction"], scans, unit)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"True{units}", ylabel=f"Predicted{units}")
    axes.set_title(_title(model))
    return Panel(
        file_name(title, model.label, "predictions"),
        f"{title}, {model.label}: predicted against true value of {len(scans)} scans.",
        f"{metric} {format_score(model.score)}.{_over_replicates(model)}",
        figure,
    )


@mpl.rc_context(STYLE)
def bland_altman(title: str, model: Predicted, unit: str | None) -> Panel:
    """Predicted minus true by the mean of both, with mean difference and limits of agreement.

    By the mean, as Bland & Altman advise for two measurements that both err (1995, Lancet 346:1085): a slope says that
    predictions spread less, or more, than the truth. Brain-age gaps are often drawn by true age instead, since age is
    known without error and is what the gap must not hang on. There the slope is never free of the regression to the
    mean: predictions that know less than everything are drawn to the training scans' mean, so that the young are
    overestimated and the old underestimated, by the best of models too (`evaluation.calibration.age_gap`).

    Args:
        title: what is predicted of whom.
        model: of a regression; the prediction of a scan is the mean over replicates.
        unit: of the target.
    """
    scans = scans_of(model.table)
    units = f" ({unit})" if unit else ""
    difference = scans["prediction"] - scans["target"]
    found = limits_of_agreement(difference.to_numpy(float), scans["subject_id"].nunique())
    figure = Figure(figsize=(3.1, 3.3), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=0.8)
    for name, score, style in (
        ("Mean difference", found.mean, "-"),
        ("Lower limit of agreement", found.lower, "--"),
        ("Upper limit of agreement", found.upper, "--"),
    ):
        if math.isnan(score.value):
            continue
        if not math.isnan(score.low):
            axes.axhspan(score.low, score.high, color=GREY, alpha=0.14, linewidth=0)
        line = axes.axhline(score.value, color="#1b1b1b", linewidth=1.1, linestyle=style)
        annotate(line, tips=[f"{name}: {format_score(score)}{f' {unit}' if unit else ''}"])
    _cloud(axes, model, (scans["prediction"] + scans["target"]) / 2, difference, scans, unit)
    axes.set(xlabel=f"Mean of predicted and true{units}", ylabel=f"Predicted − true{units}", title=_title(model))
    axes.set_box_aspect(1)
    limits = "limits of agreement n/a"
    if not math.isnan(found.lower.value):
        limits = f"limits of agreement {format_score(found.lower)} and {format_score(found.upper)}"
    return Panel(
        file_name(title, model.label, "bland altman"),
        f"{title}, {model.label}: predicted minus true by the mean of both, {len(scans)} scans.",
        f"Mean difference {format_score(found.mean)}, {limits}{f' {unit}' if unit else ''}.{_over_replicates(model)}",
        figure,
    )


def limits_of(models: Sequence[Predicted]) -> tuple[float, float]:
    """What the axes of several models' predicted and true values share."""
    values = np.concatenate(
        [scans_of(model.table)[["target", "prediction"]].to_numpy(float).ravel() for model in models]
    )
    margin = 0.05 * float(np.ptp(values)) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def _title(model: Predicted) -> str:
    return textwrap.fill(model.label, 32)


def _over_replicates(model: Predicted) -> str:
    """A sentence for captions on what a point is; nothing where it is a prediction."""
    n = model.table["replicate"].nunique() if "replicate" in model.table else 1
    return f" Points are means over {n} seeds or repetitions, which err less than one." if n > 1 else ""


def scans_of(table: pd.DataFrame) -> pd.DataFrame:
    """One row a scan, its prediction the mean over replicates."""
    if "replicate" not in table or table["replicate"].nunique() < 2:
        return table
    mean = table.groupby("scan_id")["prediction"].mean()
    scans = table.drop_duplicates("scan_id")
    return scans.assign(prediction=mean.loc[scans["scan_id"]].to_numpy())


def _cloud(axes: Axes, model: Predicted, x: Any, y: Any, scans: pd.DataFrame, unit: str | None) -> None:
    """A point a scan, which says what is known of it."""
    many = len(scans) > MAX_MARKS
    (points,) = axes.plot(x, y, "o", color=model.colour, markersize=4, alpha=0.65, markeredgewidth=0, rasterized=many)
    if not many:
        annotate(points, tips=[_tip(scan, unit) for scan in scans.to_dict("records")], series=model.label)


def _tip(scan: dict[Any, Any], unit: str | None) -> str:
    what = f"true {scan['target']:.1f}, predicted {scan['prediction']:.1f}{f' {unit}' if unit else ''}"
    age = scan.get("age_years")
    about = [f"{age:.0f} years"] if age is not None and not pd.isna(age) and age != scan["target"] else []
    about += [form.format(scan[name]) for name, form in TIPS.items() if name in scan and not pd.isna(scan[name])]
    return f"{what}; {', '.join(about)}" if about else what
