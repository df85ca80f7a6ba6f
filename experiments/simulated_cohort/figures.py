"""Pictures of the simulated cohort: people at two ages, a disease, a lesion; and effects against age and severity."""

from dataclasses import replace

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from PIL import Image

from neuro_ssl.simulation.atlas import load_atlas
from neuro_ssl.simulation.cohort import Session, Subject
from neuro_ssl.simulation.image import simulate_scan

SPACING_MM = 1.5  # finer than the cohort: to be looked at
COLOURS = {"teaching": "tab:orange", "realistic": "tab:blue"}


def person(age_years, diagnosis="CN", nihss=None, index=7):
    session = Session(age_years, field_tesla=3.0)
    return Subject(seed=0, index=index, sessions=(session,), sex="F", diagnosis=diagnosis, nihss=nihss)


def draw_anatomy(sets, path):
    """One woman at 30 and at 80, at 75 without and with Alzheimer's disease, and with a stroke of NIHSS 14."""
    columns = {
        "30 years": person(30.0),
        "80 years": person(80.0),
        "75 years, healthy": person(75.0),
        "75 years, Alzheimer's": person(75.0, "AD"),
        "75 years, stroke, NIHSS 14": person(75.0, "stroke", 14),
    }
    atlas = load_atlas(SPACING_MM)
    figure, axes = plt.subplots(2 * len(sets), len(columns), figsize=(12, 5.0 * len(sets)), facecolor="black")
    for i, (name, effects) in enumerate(sets.items()):
        for j, (title, subject) in enumerate(columns.items()):
            image, mask = (nib.as_closest_canonical(part) for part in simulate_scan(atlas, subject, 0, effects))
            voxels, inside = np.asarray(image.dataobj, dtype=float), np.asarray(mask.dataobj) > 0
            middle = np.round([np.mean(np.nonzero(inside)[axis]) for axis in range(3)]).astype(int)
            level = middle[2] + round(4 / SPACING_MM)
            if subject.nihss:  # where it is largest
                healthy, _ = simulate_scan(atlas, replace(subject, diagnosis="CN", nihss=None), 0, effects)
                level = np.abs(voxels - nib.as_closest_canonical(healthy).get_fdata()).sum((0, 1)).argmax()
            brain = tuple(slice(np.min(at) - 5, np.max(at) + 6) for at in np.nonzero(inside))
            axial = voxels[brain[0], brain[1], level]
            coronal = voxels[brain[0], middle[1] + round(2 / SPACING_MM), brain[2]]  # through the hippocampi
            for row, plane in zip((2 * i, 2 * i + 1), (axial, coronal), strict=True):
                axis = axes[row, j]
                axis.imshow(plane.T, "gray", origin="lower", vmin=0, vmax=1.25 * np.percentile(voxels[inside], 90))
                axis.axis("off")
            if i == 0:
                axes[0, j].set_title(title, color="w", fontsize=11)
        axes[2 * i, 0].text(2, 2, f"effects={name}", color="w", fontsize=11)
    figure.subplots_adjust(0, 0, 1, 0.96, 0.01, 0.01)
    save_jpeg(figure, path)


def save_jpeg(figure, path):
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).save(path, quality=80, optimize=True)
    plt.close(figure)


def draw_curves(tables, path):
    """Measured volumes against age, severity and what was planted."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7))
    for name, scans in tables.items():
        colour, first = COLOURS[name], scans[scans["visit"] == "baseline"]
        healthy, stroke = first[first["diagnosis"] == "CN"], first[first["diagnosis"] == "stroke"]
        _points(axes[0, 0], healthy["age"], healthy["ventricles_ml"], colour, name)
        _points(axes[0, 1], healthy["age"], 100 * healthy["tissue_ml"] / healthy["brain_ml"], colour, name)
        offset = list(tables).index(name) - (len(tables) - 1) / 2
        for x, sex in enumerate("FM"):
            own = first["brain_ml"][first["sex"] == sex]
            axes[0, 2].boxplot(
                own, positions=[x + 0.35 * offset], widths=0.28, patch_artist=True, boxprops={"facecolor": colour}
            )
        for diagnosis, marker in (("CN", "o"), ("AD", "x")):
            own = first[(first["diagnosis"] == diagnosis) & (first["age"] >= 55)]
            fill = {} if marker == "x" else {"facecolors": "none"}
            label = f"{name}, {'healthy' if diagnosis == 'CN' else 'AD'}"
            axes[1, 0].scatter(
                own["age"], 100 * own["medial_temporal"], 22, marker=marker, color=colour, label=label, **fill
            )
        axes[1, 1].scatter(stroke["nihss"], stroke["lesion_ml"] + 0.1, 14, color=colour, label=name)
        by_scanner = scans.groupby(["scanner", "field"])[["planted_noise", "noise"]].mean().reset_index()
        for field, marker in ((1.5, "s"), (3.0, "^")):
            own = by_scanner[by_scanner["field"] == field]
            axes[1, 2].scatter(
                100 * own["planted_noise"],
                100 * own["noise"],
                30,
                marker=marker,
                color=colour,
                label=f"{name}, {field:g} T",
            )
    axes[0, 2].set_xticks([0, 1], ["women", "men"])
    axes[1, 1].set_yscale("log")
    for axis, x, y in zip(
        axes.flat,
        ("age", "age", "", "age", "NIHSS", "noise, planted (% of white matter)"),
        (
            "ventricles (ml), healthy",
            "tissue (% of the mask), healthy",
            "brain mask (ml)",
            "medial temporal tissue (% of region)",
            "lesion found by asymmetry (ml)",
            "noise, measured in air (%)",
        ),
        strict=True,
    ):
        axis.set(xlabel=x, ylabel=y)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (axes[0, 0], axes[1, 0], axes[1, 2]):
        axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _points(axis, x, y, colour, label):
    axis.scatter(x, y, 12, color=colour, alpha=0.6, label=label)
    fit = np.polynomial.Polynomial.fit(x, y, 2)
    grid = np.linspace(x.min(), x.max(), 50)
    axis.plot(grid, fit(grid), color=colour)
