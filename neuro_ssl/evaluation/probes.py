"""Ridge, logistic and nearest-neighbour probes: what frozen features say of a target, by scikit-learn.

How strongly a probe is regularised is chosen among the training rows alone, by cross-validation in which a subject is
in one fold with all its scans (Kohavi 1995; a second scan of a subject held out would otherwise praise the probe that
knows single scans by heart), by the squared error of all held-out rows: for probabilities the Brier score, which is
proper. Of equal choices, and where there are too few subjects to choose, the strongest regularisation is taken.

Legend: n rows, f features, c choices of the regularisation, from strong to weak.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import linalg
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsRegressor

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import Array, Kind

Probe = Literal["ridge_probe", "logistic_probe", "knn_probe"]
PROBES: dict[Probe, tuple[Kind, ...]] = {
    "ridge_probe": ("regression",),
    "logistic_probe": ("classification",),
    "knn_probe": ("regression", "classification"),
}
N_FOLDS = 5
# Penalties a feature: with f standardised features, x·x is about f, so that 1 halves what two scans say, whatever f.
# From what leaves little but the mean (or the classes' shares) to what hardly holds a thousand scans back.
RIDGE_PENALTIES = np.logspace(3, -5, 17)
LOGISTIC_PENALTIES = np.logspace(3, -4, 8)
NEIGHBOURS = (200, 100, 50, 20, 10, 5, 3, 2, 1)
FARTHEST = 10.0  # standard deviations
RESOLUTION = 1e-5  # of a feature: encoders compute in float32 or less, whose rounding must not pass for variation

_Predict = Callable[[Array], Array]  # features (n, f) → predictions (c, n)


@dataclass(frozen=True)
class FittedProbe:
    """A probe, fitted: features (n, f) → predictions (n,), in the target's unit or the probability of class 1.

    Attributes:
        choice: the regularisation chosen: the penalty on squared weights (ridge: scikit-learn's `alpha`; logistic:
            1 / `C`) or the number of neighbours.
        model: features (n, f) → predictions (1, n).
    """

    choice: float
    model: _Predict

    def __call__(self, features: npt.ArrayLike) -> Array:
        """Predictions (n,) for features (n, f)."""
        return self.model(np.asarray(features, np.float64))[0]  # type: ignore[no-any-return]


class Scale:
    """Features at mean 0 and variance 1 over the training rows; those that don't vary there are dropped.

    A new row that lies further out than `FARTHEST` standard deviations, or than a training row can (√n), is taken to
    lie there: what hardly varied in training must not decide alone. Training rows are never changed by this.

    Args:
        features: of the training rows, (n, f).
    """

    def __init__(self, features: Array) -> None:
        sd = features.std(axis=0)
        self.varies = sd > RESOLUTION * np.abs(features).max(axis=0)
        self.mean, self.sd = features[:, self.varies].mean(axis=0), sd[self.varies]
        self.farthest = max(FARTHEST, len(features) ** 0.5)

    def __call__(self, features: Array) -> Array:
        """(n, f) → (n, features that vary)."""
        standardised: Array = (features[:, self.varies] - self.mean) / self.sd
        return standardised.clip(-self.farthest, self.farthest)


def fit_probe(
    probe: Probe,
    kind: Kind,
    features: npt.ArrayLike,
    target: npt.ArrayLike,
    subject: npt.ArrayLike,
    *,
    seed: int = 0,
) -> FittedProbe:
    """Fit a probe to the training rows, its regularisation chosen among them.

    With one training row, one value of the target or no feature that varies, the prediction is the target's mean.

    Args:
        probe: a ridge regression, a logistic regression, or the mean (the share of class 1) of the nearest neighbours
            by the cosine of standardised features, each weighted by 1 / (1 − cosine).
        kind: "classification" (binary) or "regression".
        features: (n, f), finite.
        target: (n,), finite; for classification 0 or 1.
        subject: (n,), whom each row shows.
        seed: of the folds.

    Raises:
        InputError: a probe that is not for this kind of target, or rows that cannot be fitted.
    """
    if kind not in PROBES[probe]:
        raise InputError(f"{probe} is for {' and '.join(PROBES[probe])}, not for {kind}; choose another probe")
    x, y, who = np.asarray(features, np.float64), np.asarray(target, np.float64), np.asarray(subject)
    _check(kind, x, y, who)
    divisions = subject_folds(kind, y, who, seed=seed)
    choices = _choices(probe, int(Scale(x).varies.sum()), len(y))
    error = np.zeros(len(choices))
    for train, held_out in divisions:
        predictions = _fit(probe, x[train], y[train], choices)(x[held_out])
        error += ((predictions - y[held_out]) ** 2).sum(axis=1)
    best = np.flatnonzero(error <= error.min() * (1 + 1e-9))[:1]  # equal but for rounding: the strongest
    return FittedProbe(float(choices[best][0]), _fit(probe, x, y, choices[best]))


def subject_folds(
    kind: Kind, target: Array, subject: npt.NDArray[np.generic], *, seed: int = 0
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Divide rows into (train, held out) by subject: five times, or as often as there are subjects of the rarer class.

    Which subjects go together depends on who there is and the seed, not on the order of the rows.

    Args:
        kind: classes are balanced over the folds, numbers not.
        target: (n,).
        subject: (n,).
        seed: of the division.

    Returns:
        Indices of the rows; nothing if there are fewer than two subjects (of each class).
    """
    names, code = np.unique(subject, return_inverse=True)
    code = np.random.default_rng(seed).permutation(len(names))[code]  # scikit-learn goes by the order of the codes
    groups = [target == value for value in (0, 1)] if kind == "classification" else [np.ones(len(code), bool)]
    n_folds = min(N_FOLDS, *(len(np.unique(code[group])) for group in groups))
    if n_folds < 2:
        return []
    divide = StratifiedGroupKFold(n_folds) if kind == "classification" else GroupKFold(n_folds)
    return [(train, held_out) for train, held_out in divide.split(code, target, code) if len(held_out)]


def _check(kind: Kind, features: Array, target: Array, subject: npt.NDArray[np.generic]) -> None:
    n = len(target)
    if features.ndim != 2 or target.ndim != 1 or len(features) != n or subject.shape != (n,):
        raise InputError(
            f"a probe needs features (n, f), target (n,) and subject (n,); got the shapes {features.shape}, "
            f"{target.shape} and {subject.shape}"
        )
    if n == 0:
        raise InputError("a probe needs a training row with a target; there is none")
    if not (np.isfinite(features).all() and np.isfinite(target).all()):
        what = "target" if np.isfinite(features).all() else "features"
        raise InputError(f"the probe's {what} of the training rows are not all finite; leave those rows out")
    if kind == "classification" and not np.isin(target, (0, 1)).all():
        raise InputError(f"a classification probe needs targets 0 and 1; got {target[~np.isin(target, (0, 1))][0]:g}")


def _choices(probe: Probe, n_features: int, n_rows: int) -> Array:
    """What the regularisation is chosen from, from strong to weak."""
    if probe == "knn_probe":
        return np.array([k for k in NEIGHBOURS if k <= n_rows], float)
    return max(n_features, 1) * (RIDGE_PENALTIES if probe == "ridge_probe" else LOGISTIC_PENALTIES)


def _fit(probe: Probe, features: Array, target: Array, choices: Array) -> _Predict:
    """A probe for each choice, on features standardised over these rows: features (n, f) → predictions (c, n)."""
    scale = Scale(features)
    if len(np.unique(target)) == 1 or not scale.varies.any():
        return _Scaled(
            scale, _Linear(np.zeros((len(choices), scale.varies.sum())), np.full(len(choices), target.mean()))
        )
    fit = {"ridge_probe": _ridge, "logistic_probe": _logistic, "knn_probe": _nearest}[probe]
    return _Scaled(scale, fit(scale(features), target, choices))


@dataclass(frozen=True)
class _Scaled:
    scale: Scale
    model: _Predict

    def __call__(self, features: Array) -> Array:
        return self.model(self.scale(features))


@dataclass(frozen=True)
class _Linear:
    """weights (c, f) and intercept (c,)."""

    weights: Array
    intercept: Array
    sigmoid: bool = False

    def __call__(self, features: Array) -> Array:
        output = self.weights @ features.T + self.intercept[:, None]
        return np.exp(-np.logaddexp(0, -output)) if self.sigmoid else output


@dataclass(frozen=True)
class _Nearest:
    models: list[KNeighborsRegressor]

    def __call__(self, features: Array) -> Array:
        return np.stack([model.predict(features) for model in self.models])


def _span(features: Array) -> tuple[Array, Array, Array]:
    """Singular value decomposition u·s·v of the training rows, without directions in which nothing varies.

    Weights that an L2 penalty holds back lie in the span of the rows, and a rotation leaves penalty and predictions
    as they are: with f ≫ n, a regression on u·s has n unknowns instead of f, and the same result.
    """
    u, s, v = linalg.svd(features, full_matrices=False)
    kept = s > s[0] * np.finfo(float).eps * max(features.shape)
    return u[:, kept], s[kept], v[kept]


def _ridge(features: Array, target: Array, penalties: Array) -> _Predict:
    u, s, v = _span(features)
    mean = target.mean()  # standardised features have mean 0: this is the intercept
    shrunk = s / (s**2 + penalties[:, None]) * (u.T @ (target - mean))
    return _Linear(shrunk @ v, np.full(len(penalties), mean))


def _logistic(features: Array, target: Array, penalties: Array) -> _Predict:
    u, s, v = _span(features)
    # Newton's steps, from one penalty's solution to the next, which converge in a handful where L-BFGS takes hundreds.
    model = LogisticRegression(solver="newton-cholesky", tol=1e-8, warm_start=True)
    weights, intercepts = [], []
    for penalty in penalties:
        model.set_params(C=1 / penalty).fit(u * s, target)
        weights.append(model.coef_[0] @ v)
        intercepts.append(model.intercept_[0])
    return _Linear(np.stack(weights), np.array(intercepts), sigmoid=True)


def _nearest(features: Array, target: Array, numbers: Array) -> _Predict:
    settings = {"metric": "cosine", "weights": "distance", "algorithm": "brute"}
    counts = [min(int(k), len(target)) for k in numbers]  # a fold has fewer rows than there are in all
    return _Nearest([KNeighborsRegressor(k, **settings).fit(features, target) for k in counts])
