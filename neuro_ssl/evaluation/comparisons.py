"""Whether two models differ by more than chance, on the same scans: a difference, its interval and a p value.

The interval is the paired bootstrap over subjects (`scores.difference`). The p value of an AUROC is DeLong's (DeLong et
al. 1988, Biometrics 44:837-845; with ranks as in Sun & Xu 2014, IEEE Signal Process Lett 21:1389-1393), and where
subjects have several scans Obuchowski's (1997, Biometrics 53:567-578), which equals it where they have one. Of every
other score it is a permutation test's, by `scipy.stats.permutation_test`: were the models alike, a subject's
predictions by the two could be exchanged.

All of it is about other subjects, with these trained models: replicates are averaged, and their spread adds nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, permutation_test, rankdata, zscore

from neuro_ssl.evaluation.bootstrap import MIN_SUBJECTS, Score, Subjects, subjects_of
from neuro_ssl.evaluation.metrics import METRICS, Array, Kind, Predictions
from neuro_ssl.evaluation.scores import difference, paired_predictions

Test = Literal["DeLong", "clustered DeLong", "permutation", "none"]

LOSSES = {"mae": np.abs, "brier": np.square}  # of the error: scores that are the mean of a loss
_WEIGHTS_AT_ONCE = 1_000_000  # of permutations, in memory together


@dataclass(frozen=True)
class Comparison(Score):
    """A difference of scores, its 95 % interval, and whether chance explains it.

    Attributes:
        p: two-sided, not adjusted for other comparisons (`holm`); nan where `test` can't give one.
        test: that p comes from.
    """

    p: float
    test: Test


def compare(
    table_a: pd.DataFrame,
    table_b: pd.DataFrame,
    kind: Kind,
    metric: str,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
    n_permutations: int = 10_000,
) -> Comparison:
    """Score of `table_a` minus score of `table_b`, paired by subject.

    Cross-validated predictions (column `fold`) are never put to DeLong's test: folds have too few scans for a variance
    each, and one fold's test scans trained the others' models. The permutation test, which takes the trained models as
    given too, needs the same folds in both tables, each as often in proportion.

    Args:
        table_a: see `scores.predictions_of`, with `scan_id`.
        table_b: predictions of another model for the same scans. It may have more or fewer replicates: each is then
            exchanged with every one of the other table that has the same folds, and the permutation test is no longer
            exact, but holds for many subjects.
        kind: "classification" or "regression".
        metric: a key of `METRICS[kind]`.
        seed: of bootstrap and permutations: the same tables give the same numbers.
        n_resamples: of the bootstrap.
        n_permutations: all of them are tried where there are no more than this, as with 13 subjects.

    Returns:
        p is nan with test "none" (which it is also where a score is undefined, or there is one subject), and by DeLong
        with fewer than `MIN_SUBJECTS` subjects in a class. It is 1 for models that don't differ in any scan, and
        cautious for scores with few possible values, such as the balanced accuracy.

    Raises:
        InputError: see `scores.difference`.
    """
    delta = difference(table_a, table_b, kind, metric, seed=seed, n_resamples=n_resamples)
    if np.isnan(delta.value):
        return Comparison(delta.value, delta.low, delta.high, np.nan, "none")
    scans, a, b = paired_predictions(table_a, table_b, kind)
    subjects = subjects_of(scans, kind)
    if len(np.unique(subjects.subject)) < 2:  # nobody to exchange with
        return Comparison(delta.value, delta.low, delta.high, np.nan, "none")
    random = {"seed": seed, "n_permutations": n_permutations}
    test: Test = "permutation"
    if metric == "auroc" and all(p.fold is None for p in (*a, *b)):
        test = "DeLong" if len(np.unique(subjects.subject)) == len(subjects.subject) else "clustered DeLong"
        p = _delong(a, b, subjects)
    elif metric in LOSSES:
        p = _sign_flips(_excess_loss(a, b, LOSSES[metric]), subjects.subject, **random)
    elif not (pairs := _pairs(a, b)):
        test, p = "none", np.nan
    elif metric == "auroc":
        p = _sign_flips(_excess_auroc(pairs), subjects.subject, **random)
    else:
        p = _swaps(pairs, METRICS[kind][metric].compute, metric, subjects.subject, **random)
    return Comparison(delta.value, delta.low, delta.high, p, test)


def holm(p_values: npt.ArrayLike) -> Array:
    """P values adjusted for each other (Holm 1979, Scand J Stat 6:65-70); nan stays nan, and doesn't count.

    Args:
        p_values: (comparisons,) of one table.

    Returns:
        (comparisons,); those below 0.05 hold together at 5 %.
    """
    adjusted = np.array(p_values, float)
    known = np.flatnonzero(~np.isnan(adjusted))
    ascending = known[np.argsort(adjusted[known], kind="stable")]
    factors = len(known) - np.arange(len(known))
    adjusted[ascending] = np.minimum(np.maximum.accumulate(factors * adjusted[ascending]), 1)
    return adjusted


def _delong(a: Sequence[Predictions], b: Sequence[Predictions], subjects: Subjects) -> float:
    """P value of a difference of AUROCs; Obuchowski's variance, of the difference of the placements."""
    positive = a[0].target == 1
    excess = np.mean([_placements(p) for p in a], axis=0) - np.mean([_placements(p) for p in b], axis=0)  # (scans,)
    if not excess.any():
        return 1.0
    delta = excess[positive].mean()
    n_scans, sums, variances = [], [], 0.0
    for of_class in (positive, ~positive):
        n_subjects = len(np.unique(subjects.subject[of_class]))
        if n_subjects < MIN_SUBJECTS:
            return np.nan
        # A subject's scans move together: what counts is their sum.
        sums.append(np.bincount(subjects.subject, weights=(excess - delta) * of_class))
        n_scans.append(of_class.sum())
        variances += n_subjects / (n_subjects - 1) * (sums[-1] ** 2).sum() / n_scans[-1] ** 2
    n = len(sums[0])
    covariance = n / (n - 1) * (sums[0] * sums[1]).sum() / (n_scans[0] * n_scans[1])  # of subjects with both classes
    variance = variances + 2 * covariance
    return float(2 * norm.sf(abs(delta) / variance**0.5)) if variance > 0 else np.nan


def _placements(p: Predictions) -> Array:
    """Of a positive scan the share of negative ones below it, of a negative scan that of positive ones above: (scans,).

    Ties count half. The mean over either class is the AUROC.
    """
    positive = p.target == 1
    placement = np.empty(len(p.target))
    ranks = rankdata(p.prediction)
    placement[positive] = (ranks[positive] - rankdata(p.prediction[positive])) / (~positive).sum()
    placement[~positive] = 1 - (ranks[~positive] - rankdata(p.prediction[~positive])) / positive.sum()
    return placement


def _sign_flips(excess: Array, subject: npt.NDArray[np.intp], *, seed: int, n_permutations: int) -> float:
    """Where exchanging a scan's predictions changes the sign of what it adds to the difference, `excess` (scans,)."""
    of_subject = np.bincount(subject, weights=excess)
    result = permutation_test(
        (of_subject,),
        lambda excess, axis: excess.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_permutations,
        batch=max(1, _WEIGHTS_AT_ONCE // len(of_subject)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _excess_loss(a: Sequence[Predictions], b: Sequence[Predictions], loss: Callable[[Array], Array]) -> Array:
    of_a, of_b = (np.mean([loss(p.prediction - p.target) for p in replicates], axis=0) for replicates in (a, b))
    return np.asarray(of_a - of_b)


def _excess_auroc(pairs: Sequence[tuple[Predictions, Predictions, float]]) -> Array:
    """What each scan adds to the difference of AUROCs within folds: (scans,).

    Let s be 1 for a scan whose predictions are kept, and -1 for one whose are exchanged. A positive scan x and a
    negative one y add s_x·(aa - bb) if s_x = s_y, else s_x·(ab - ba), ab being whether a's prediction of x is above b's
    of y. That is s_x·(aa - bb + ab - ba)/2 + s_y·(aa - bb - ab + ba)/2: a sum over scans, each with its sign.
    """
    total = np.zeros(len(pairs[0][0].target))
    for p, q, share in pairs:
        excess, n_compared = np.zeros(len(total)), 0
        ranks_p, ranks_q = (_on_a_common_scale(predictions, "auroc") for predictions in (p, q))
        for part in p.parts:
            scans = np.arange(len(total))[part]
            x, y = scans[p.target[scans] == 1], scans[p.target[scans] == 0]
            aa, bb, ab, ba = (
                (np.sign(of_x[x][:, None] - of_y[y]) + 1) / 2
                for of_x, of_y in ((ranks_p, ranks_p), (ranks_q, ranks_q), (ranks_p, ranks_q), (ranks_q, ranks_p))
            )
            excess[x] = (aa - bb + ab - ba).sum(1) / 2
            excess[y] = (aa - bb - ab + ba).sum(0) / 2
            n_compared += len(x) * len(y)
        total += share * excess / n_compared
    return total


def _pairs(a: Sequence[Predictions], b: Sequence[Predictions]) -> list[tuple[Predictions, Predictions, float]]:
    """Which replicates are exchanged with each other, with weights that give all of a model the same; or none.

    One by one if that goes, else each with all that have the same folds.
    """
    if len(a) == len(b) and all(_same_folds(p, q) for p, q in zip(a, b, strict=True)):
        return [(p, q, 1 / len(a)) for p, q in zip(a, b, strict=True)]
    same = np.array([[_same_folds(p, q) for q in b] for p in a])
    of_a, of_b = same.sum(1), same.sum(0)  # partners of each
    pairs = np.argwhere(same)
    if not of_a.all() or not of_b.all() or any(of_a[i] * len(a) != of_b[j] * len(b) for i, j in pairs):
        return []
    return [(a[i], b[j], 1 / (len(a) * of_a[i])) for i, j in pairs]


def _swaps(
    pairs: Sequence[tuple[Predictions, Predictions, float]],
    compute: Callable[[Predictions, Array], Array],
    metric: str,
    subject: npt.NDArray[np.intp],
    *,
    seed: int,
    n_permutations: int,
) -> float:
    """Of any score: the two models' predictions side by side, of which weights of 0 and 1 choose."""
    pooled = [(_side_by_side(p, q, metric), share) for p, q, share in pairs]

    def statistic(left: Array, right: Array, axis: int) -> Array:
        """`left` (…, subjects): the model, 0 or 1, whose prediction counts as a's; `right`: as b's."""
        swapped, kept = left[..., subject], right[..., subject]
        as_a, as_b = np.concatenate([kept, swapped], -1), np.concatenate([swapped, kept], -1)
        differences = [share * (compute(p, as_a) - compute(p, as_b)) for p, share in pooled]
        return np.sum(differences, axis=0)  # type: ignore[no-any-return]

    n_subjects = subject.max() + 1
    with np.errstate(all="ignore"):  # 0/0 where a score is undefined
        result = permutation_test(
            (np.zeros(n_subjects), np.ones(n_subjects)),
            statistic,
            permutation_type="samples",
            vectorized=True,
            n_resamples=n_permutations,
            batch=max(1, _WEIGHTS_AT_ONCE // (2 * len(subject))),
            rng=np.random.default_rng(seed),
        )
    return float(result.pvalue) if np.isfinite(result.null_distribution).all() else np.nan


def _side_by_side(a: Predictions, b: Predictions, metric: str) -> Predictions:
    """The scans twice: as the one model predicts them, then as the other does."""

    def both(of_a: Array | None, of_b: Array | None) -> Array | None:
        return None if of_a is None or of_b is None else np.concatenate([of_a, of_b])

    return Predictions(
        target=np.concatenate([a.target, b.target]),
        prediction=np.concatenate([_on_a_common_scale(p, metric) for p in (a, b)]),
        decision=both(a.called, b.called),
        specific=both(a.specific, b.specific),
    )


def _on_a_common_scale(p: Predictions, metric: str) -> Array:
    """What the score doesn't change by, so that predictions of two models that use other scales can be exchanged."""
    if metric == "pearson":
        return zscore(p.prediction)
    if metric not in ("auroc", "average_precision", "spearman"):
        return p.prediction
    ranks = np.empty(len(p.prediction))
    for part in p.parts if metric == "auroc" else [slice(None)]:
        ranks[part] = rankdata(p.prediction[part])
    return ranks


def _same_folds(a: Predictions, b: Predictions) -> bool:
    return a.fold is b.fold is None or (a.fold is not None and b.fold is not None and np.array_equal(a.fold, b.fold))
