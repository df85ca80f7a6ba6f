"""Features in two dimensions: principal components, and UMAP (McInnes et al. 2018, arXiv:1802.03426)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from neuro_ssl.errors import InputError

NEIGHBOURS = 15  # of UMAP, its default; fewer scans have fewer
MIN_SCANS = {"pca": 3, "umap": 5}  # with fewer, UMAP's spectral start fails
UMAP_EXTRA = "pip install 'neuro_ssl[umap]'"


@dataclass(frozen=True, eq=False)
class Projection:
    """Where each scan lies.

    Attributes:
        points: (scans, 2).
        shares: of the variance, that the two axes show; None where axes mean nothing.
    """

    points: npt.NDArray[np.float64]
    shares: tuple[float, float] | None


def pca(features: npt.NDArray[np.float64]) -> Projection:
    """The first two principal components of features (scans, features), centred on these scans."""
    if np.ptp(features, axis=0).max() == 0:  # collapsed: all scans in one place
        return Projection(np.zeros((len(features), 2)), (np.nan, np.nan))
    found = PCA(2, svd_solver="full")
    points = found.fit_transform(features)
    first, second = found.explained_variance_ratio_.tolist()
    return Projection(points, (first, second))


def umap(features: npt.NDArray[np.float64]) -> Projection:
    """UMAP of features (scans, features), with seed 0: the same scans give the same picture on one machine."""
    with warnings.catch_warnings():
        # Of Tensorflow, which isn't needed; and that few scans, or scans far from all others, aren't connected, which
        # is what the picture shows.
        warnings.simplefilter("ignore")
        from umap import UMAP

        found = UMAP(n_neighbors=min(NEIGHBOURS, len(features) - 1), random_state=0, n_jobs=1)
        return Projection(np.asarray(found.fit_transform(features), np.float64), None)


PROJECTIONS: dict[str, Callable[[npt.NDArray[np.float64]], Projection]] = {"pca": pca, "umap": umap}


def choose(names: Sequence[str] | None) -> list[str]:
    """The projections to draw; by default all that are installed.

    Raises:
        InputError: a name that is none, or UMAP where it isn't installed.
    """
    installed = find_spec("umap") is not None
    if names is None:
        return ["pca", "umap"] if installed else ["pca"]
    if unknown := sorted(set(names) - set(PROJECTIONS)):
        raise InputError(f"projections=[{', '.join(unknown)}]: not among {', '.join(PROJECTIONS)}")
    if "umap" in names and not installed:
        raise InputError(f"projections: umap needs {UMAP_EXTRA}")
    return list(dict.fromkeys(names))
