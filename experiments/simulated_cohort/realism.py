"""Can a classifier tell simulated from real scans, and by what? Both come from stores of the same preprocessing.

    python experiments/simulated_cohort/realism.py WORK [--figure]

WORK holds the stores that `realism.sh` made: stores/ixi (real), stores/teaching, stores/realistic. Every scan is a
subject of its own, so folds over scans are folds over subjects.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from figures import save_jpeg
from scipy import ndimage, stats
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuro_ssl.data.store import VolumeStore

CUBE = 64  # voxels; of the spectrum
QUANTILES = (2, 10, 25, 50, 75, 90, 98)


def features(volume):
    """Numbers of one brain, by family; volume: (z, y, x), white matter 1, background 0."""
    inside = volume > 0
    core = ndimage.binary_erosion(inside, iterations=2)  # without the mask's rim
    values = volume[core]
    extent = [np.ptp(np.nonzero(inside)[axis]) for axis in range(3)]
    surface = inside.sum() - ndimage.binary_erosion(inside).sum()
    start = [(n - CUBE) // 2 for n in volume.shape]
    cube = volume[tuple(slice(s, s + CUBE) for s in start)]
    window = np.hanning(CUBE)
    window = window[:, None, None] * window[None, :, None] * window
    power = np.abs(np.fft.fftn((cube - cube.mean()) * window)) ** 2
    frequency = np.fft.fftfreq(CUBE)
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(frequency, frequency, frequency, indexing="ij")))
    bands = np.digitize(radius, np.linspace(0, 0.5, 9))
    gradient, laplacian = ndimage.gaussian_gradient_magnitude(volume, 1)[core], np.abs(ndimage.laplace(volume))[core]
    left_right = np.corrcoef(volume[inside], volume[:, :, ::-1][inside])[0, 1]
    return {
        ("size and shape", "ml"): inside.sum() * 0.008,
        **{("size and shape", f"extent {axis}"): n for axis, n in zip("zyx", extent, strict=True)},
        ("size and shape", "surface / volume^⅔"): surface / inside.sum() ** (2 / 3),
        ("size and shape", "left–right correlation"): left_right,
        **{("intensity", f"quantile {q}"): np.percentile(values, q) for q in QUANTILES},
        **{("spectrum", f"band {b}"): np.log10(power[bands == b].mean()) for b in range(1, 9)},
        ("texture", "gradient, mean"): gradient.mean(),
        ("texture", "gradient, 95 %"): np.percentile(gradient, 95),
        ("texture", "Laplacian, median"): np.median(laplacian),
        ("texture", "Laplacian, 95 %"): np.percentile(laplacian, 95),
    }


def out_of_fold(model, x, y):
    """Mean of 5 predictions for each scan, none by a model that saw it."""
    total = np.zeros(len(y))
    for train, test in RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0).split(x, y):
        total[test] += model.fit(x[train], y[train]).predict_proba(x[test])[:, 1]
    return total / 5


def auroc(y, score):
    """With a 95 % bootstrap interval over subjects."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(y == label) for label in (0, 1)]
    drawn = [np.concatenate([rng.choice(group, len(group)) for group in groups]) for _ in range(999)]
    low, high = np.percentile([roc_auc_score(y[i], score[i]) for i in drawn], [2.5, 97.5])
    return f"{roc_auc_score(y, score):.2f} [{low:.2f}, {high:.2f}]"


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def compare(real, simulated):
    """AUROC of each model and feature family: name → text; and how far each feature is off, in SDs of the real."""
    table = pd.DataFrame([features(volume) for volume in [*real, *simulated]])
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    y = np.repeat([0, 1], [len(real), len(simulated)])
    small = [ndimage.zoom(volume, 0.25, order=1).ravel() for volume in [*real, *simulated]]
    pca = make_pipeline(PCA(10, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    forest = RandomForestClassifier(300, random_state=0)
    rows = {"all features, random forest": auroc(y, out_of_fold(forest, table.to_numpy(), y))}
    rows["all features, logistic"] = auroc(y, out_of_fold(logistic(), table.to_numpy(), y))
    for family in table.columns.unique(0):
        rows[f"{family} alone"] = auroc(y, out_of_fold(logistic(), table[family].to_numpy(), y))
    rows["voxels at 8 mm (10 components)"] = auroc(y, out_of_fold(pca, np.stack(small), y))
    off = (table[y == 1].mean() - table[y == 0].mean()) / table[y == 0].std()
    separation = {name: stats.mannwhitneyu(table[name][y == 1], table[name][y == 0]).statistic for name in table}
    separation = pd.Series(separation) / (len(real) * len(simulated))
    return rows, pd.DataFrame({"SDs off": off, "AUROC": np.maximum(separation, 1 - separation)})


def draw(groups, path):
    """Two brains and the mean of each group, and how its mean differs from that of the real ones."""
    figure, axes = plt.subplots(len(groups), 8, figsize=(14, 2.1 * len(groups)), facecolor="black")
    means = {name: np.mean(volumes, axis=0) for name, volumes in groups.items()}
    for row, (name, volumes) in zip(axes, groups.items(), strict=True):
        shown = [volumes[0], volumes[1], means[name], means[name] - means["real"]]
        for column, volume in enumerate(shown):
            difference = column == 3
            for k, plane in enumerate((volume[36], volume[:, 48])):
                limits = {"vmin": -0.5, "vmax": 0.5} if difference else {"vmin": 0, "vmax": 1.3}
                row[2 * column + k].imshow(plane, "berlin" if difference else "gray", origin="lower", **limits)
        row[0].set_title(name, color="w", fontsize=12, loc="left")
    axes[0, 4].set_title("mean", color="w", fontsize=12, loc="left")
    axes[1, 6].set_title("mean − mean of the real", color="w", fontsize=12, loc="left")
    for axis in axes.flat:
        axis.axis("off")
    for axis in axes[0, 6:]:
        axis.set_visible(False)
    figure.subplots_adjust(0, 0, 1, 0.95, 0.01, 0.14)
    save_jpeg(figure, path)


def main():
    """Compare each simulated store with the real one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--figure", action="store_true", help="draw realism.jpg beside this file")
    args = parser.parse_args()
    groups = {}
    for name in ("ixi", "teaching", "realistic"):
        (folder,) = (args.work / "stores" / name).glob("2mm-*")
        store = VolumeStore.open(folder)
        groups["real" if name == "ixi" else name] = [
            store.read(volume).astype(np.float32) for volume in store.manifest["volume"]
        ]
    print({name: len(volumes) for name, volumes in groups.items()})
    real = groups["real"]
    found = {name: compare(real, groups[name]) for name in ("teaching", "realistic")}
    found["real against real"] = compare(real[::2], real[1::2])
    rows = pd.DataFrame({name: own for name, (own, _) in found.items()})
    print(rows.to_string())
    print()
    print(pd.concat({name: own for name, (_, own) in found.items()}, axis=1).round(2).to_string())
    if args.figure:
        draw(groups, Path(__file__).with_name("realism.jpg"))


if __name__ == "__main__":
    main()
