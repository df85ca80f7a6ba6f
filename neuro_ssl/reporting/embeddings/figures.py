"""Embeddings as small multiples: a row an encoder, a column a colouring."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuro_ssl.reporting.embeddings.encoded import Encoded, ScanSet
from neuro_ssl.reporting.embeddings.projections import NEIGHBOURS, Projection
from neuro_ssl.reporting.panel import COLOURS, GREY, STYLE, Panel, annotate, file_name

IDS = ("scan_id", "subject_id", "split")  # not coloured by; and ids are never shown
LABELS = {"age_years": "Age (years)", "nihss": "NIHSS", "brain_ml": "Brain volume (ml)"}
MAX_COLUMNS = 6
MARKERS = "os^Dv<>"
PALETTE = COLOURS[: len(MARKERS)]  # without yellow, which is faint on white
COLOUR_MAP = "cividis"
ABSENT = "#c4c4c4"
SEEN = " Hollow: scans or persons that the encoder was trained on."
NAMES = {"pca": "PCA", "umap": "UMAP"}


def colourings(scans: pd.DataFrame) -> list[str]:
    """The columns that points are coloured by: labels of which there are at least two values."""
    columns = [str(name) for name in scans if name not in IDS and scans[name].nunique() > 1]
    if {"site", "scanner"} <= set(columns):
        both = scans[["site", "scanner"]].drop_duplicates()
        if not both["site"].duplicated().any() and not both["scanner"].duplicated().any():
            columns.remove("scanner")  # says nothing that the site doesn't
    return columns[:MAX_COLUMNS]


@mpl.rc_context(STYLE)
def embedding(
    scan_set: ScanSet, kind: str, encoders: Sequence[Encoded], projections: Sequence[Projection], *, pointed: bool
) -> Panel:
    """Encoders' projections of the same scans.

    Args:
        scan_set: what is shown.
        kind: a key of `projections.PROJECTIONS`.
        encoders: of the scan set, those of this figure.
        projections: of each of them.
        pointed: whether points say what they are; else they are drawn as pictures.
    """
    columns = colourings(scan_set.scans) or [""]
    n_rows = len(encoders)
    figure = Figure(figsize=(0.55 + 2.0 * len(columns), 0.9 + 2.0 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, len(columns), squeeze=False)
    tips = [_tip(scan) for scan in scan_set.scans.to_dict("records")] if pointed else None
    for encoded, found, row in zip(encoders, projections, grid, strict=True):
        for axes, column in zip(row, columns, strict=True):
            _scatter(axes, scan_set.scans, column, encoded, found, tips)
            axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim", box_aspect=1)
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color("#d4d4d4")
        words = textwrap.fill(encoded.name, 24)
        if found.shares is not None:
            first, second = ("n/a" if math.isnan(share) else f"{100 * share:.0f} %" for share in found.shares)
            row[0].set_xlabel(f"PC 1 ({first})", fontsize=8.5, color=GREY)
            words += f"\nPC 2 ({second})"
        row[0].set_ylabel(words, fontsize=9)
    for place, column in enumerate(columns):
        grid[0][place].set_title(_label(column))
        _key(figure, grid[:, place], scan_set.scans, column)
    n_subjects = scan_set.scans["subject_id"].nunique()
    names = ", ".join(encoded.name for encoded in encoders)
    return Panel(
        file_name("embeddings", scan_set.cohort, "held out" if scan_set.held_out else "", kind),
        f"{NAMES[kind]} of {len(scan_set.scans)} scans of {n_subjects} subjects, cohort {scan_set.cohort}, by "
        f"{names}; coloured by {', '.join(map(_label, columns))}.",
        _caption(kind) + (SEEN if any(encoded.seen is not None and encoded.seen.any() for encoded in encoders) else ""),
        figure,
    )


def _caption(kind: str) -> str:
    if kind == "pca":
        return (
            "PCA of each encoder's features, fitted on the scans that are shown; in brackets, the share of their "
            "variance. One length is the same on both axes."
        )
    return (
        f"UMAP of the same features ({NEIGHBOURS} neighbours, or all where there are fewer; seed 0). Points that "
        "touch are alike; how far apart clusters lie, how large and of which shape they are means little."
    )


def _scatter(
    axes: Axes, scans: pd.DataFrame, column: str, encoded: Encoded, found: Projection, tips: Sequence[str] | None
) -> None:
    """One cell: points coloured by a column; what the encoder was trained on is hollow."""
    values = scans[column] if column else pd.Series(np.nan, scans.index)
    seen = np.zeros(len(scans), bool) if encoded.seen is None else encoded.seen
    size = 4.0 if len(scans) < 300 else 3.0 if len(scans) < 1000 else 2.0
    for hollow in (False, True):
        edge = 0.8 if hollow else 0.0
        for rows, colour, marker, level in _marks(values, seen == hollow):
            x, y = found.points[rows].T
            points: Line2D | PathCollection
            if isinstance(colour, str):
                face = "none" if hollow else colour
                (points,) = axes.plot(x, y, marker, color=colour, markersize=size, mfc=face, mew=edge, alpha=0.8)
            else:
                points = axes.scatter(x, y, size**2, c=colour, linewidths=edge, alpha=0.9)
                if hollow:
                    points.set(facecolor="none", edgecolor=colour)
            points.set_rasterized(tips is None)
            if tips is not None:
                points.set_label(level)
                annotate(points, tips=[tips[i] for i in rows], series=f"{column}: {level}" if level else None)


def _marks(
    values: pd.Series, among: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.intp], str | npt.NDArray[np.float64], str, str]]:
    """Rows that are drawn at once, among some: which, one colour or one each, marker, and the value they share."""
    rows = np.flatnonzero(among & values.isna())
    if len(rows):
        yield rows, ABSENT, ".", ""
    if pd.api.types.is_numeric_dtype(values):
        rows = np.flatnonzero(among & values.notna())
        if len(rows):
            yield rows, mpl.colormaps[COLOUR_MAP](_scale(values)(values.iloc[rows].to_numpy(float))), "o", ""
        return
    own = _shown(values)
    counts = values.value_counts()
    for level, colour, marker in sorted(_levels(values), key=lambda level: -counts.get(level[0], len(values))):
        # The frequent ones first, so that they don't cover the rare.
        chosen = values.eq(level) if level in own else values.notna() & ~values.isin(own)
        rows = np.flatnonzero(among & chosen)
        if len(rows):
            yield rows, colour, marker, level


def _key(figure: Figure, column_axes: Any, scans: pd.DataFrame, column: str) -> None:
    """What colours mean, below a column."""
    if not column:
        return
    values = scans[column]
    if pd.api.types.is_numeric_dtype(values):
        mappable = ScalarMappable(_scale(values), COLOUR_MAP)
        place = column_axes[-1].inset_axes((0.04, -0.26, 0.92, 0.06))  # below the name of the first component
        bar = figure.colorbar(mappable, cax=place, orientation="horizontal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
        return
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=5, label=level)
        for level, colour, marker in _levels(values)
    ]
    if values.isna().any():
        handles.append(Line2D([], [], color=ABSENT, marker=".", linestyle="none", label="not known"))
    column_axes[-1].legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.04),
        fontsize=8,
        ncols=1 if len(handles) > 6 else 2,
        handletextpad=0.1,
        columnspacing=0.8,
        borderaxespad=0,
    )


def _scale(values: pd.Series) -> Normalize:
    return Normalize(float(values.min()), float(values.max()))


def _shown(values: pd.Series) -> list[str]:
    """The values that have a colour of their own, the most frequent ones, in alphabetical order."""
    counts = values.value_counts()
    own = counts if len(counts) <= len(PALETTE) else counts.iloc[: len(PALETTE) - 1]
    return sorted(own.index)


def _levels(values: pd.Series) -> list[tuple[str, str, str]]:
    """Each value with its colour and marker; the rarer ones together as `other`."""
    names = _shown(values)
    levels = list(zip(names, PALETTE, MARKERS, strict=False))
    return levels if values.nunique() == len(names) else [*levels, ("other", GREY, "x")]


def _label(column: str) -> str:
    return LABELS.get(column, column.replace("_", " ").capitalize())


def _tip(scan: dict[Any, Any]) -> str:
    """What is known of a scan, but for ids."""
    words = []
    for name, value in scan.items():
        if name in ("scan_id", "subject_id") or pd.isna(value):
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        words.append(f"{text} years" if name == "age_years" else text if name == "sex" else f"{_label(name)} {text}")
    return ", ".join(words)
