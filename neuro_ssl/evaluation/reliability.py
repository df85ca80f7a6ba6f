"""Reliability: how far a scan's features and predictions are the subject's, and not the scanner's or the day's.

The intraclass correlation ICC(2,1) (two-way random effects, absolute agreement, one scan; Shrout & Fleiss 1979, Psychol
Bull 86:420-428) between two scans of a subject that are close in time, on one scanner (test–retest) or on two. A shift
of the second scans against the first counts as disagreement.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import f as f_distribution

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score, Subjects, bootstrap_interval, bootstrap_intervals
from neuro_ssl.evaluation.metrics import CONFIDENCE, Array

MAX_YEARS = 0.25  # between two scans that show the same brain


@dataclass(frozen=True)
class EmbeddingICC:
    """Reliability of an embedding.

    Attributes:
        median: of the features' ICC(2,1).
        lower_quartile: of the same.
        upper_quartile: of the same.
        multivariate: one ICC of all features together, see `embedding_icc`.
        n_pairs: pairs of scans.
        n_subjects: whose they are.
        n_constant: features that are the same in all scans, but for rounding; they have no ICC and don't count.
    """

    median: Score
    lower_quartile: float
    upper_quartile: float
    multivariate: Score
    n_pairs: int
    n_subjects: int
    n_constant: int


def icc_2_1(values: npt.ArrayLike) -> Score:
    """ICC(2,1) and its 95 % interval by the F distribution (Shrout & Fleiss 1979; McGraw & Wong 1996, ICC(A,1)).

    Args:
        values: (subjects, raters), each subject independent of the others; raters may be repeated scans.

    Returns:
        nan if a value is not finite, with fewer than 2 subjects or raters, or if all values are equal. Agreement
        without any error has no interval.
    """
    values = np.asarray(values, float)
    n, k = values.shape
    if min(n, k) < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        return Score(np.nan, np.nan, np.nan)
    centred = (values - values.mean()).T[..., None]  # keeps the sums of squares exact
    msr, msc, mse = (float(ms[0]) for ms in _mean_squares(centred, np.ones(n)))
    icc = float(_icc(msr, msc, mse, n, k))
    # Satterthwaite's degrees of freedom of the denominator; times mse² on both sides, which may be 0.
    column, error = k * icc * msc, (n * (1 + (k - 1) * icc) - k * icc) * mse
    below = (n - 1) * column**2 + error**2
    if below <= (1e-12 * msr) ** 2:
        return Score(icc, np.nan, np.nan)
    df = (k - 1) * (n - 1) * (column + error) ** 2 / below
    upper = (1 + CONFIDENCE) / 2
    f_low, f_high = f_distribution.ppf(upper, n - 1, df), f_distribution.ppf(upper, df, n - 1)
    noise = k * msc + (k * n - k - n) * mse
    low = n * (msr - f_low * mse) / (f_low * noise + n * msr)
    high = n * (f_high * msr - mse) / (noise + n * f_high * msr)
    return Score(icc, float(low), float(high))


def prediction_icc(
    first: npt.ArrayLike, second: npt.ArrayLike, subject: npt.ArrayLike, *, seed: int = 0, n_resamples: int = 2000
) -> Score:
    """ICC(2,1) of the predictions of pairs of scans.

    Args:
        first: (pairs,).
        second: (pairs,).
        subject: (pairs,), whose scans they are.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        With the interval of `icc_2_1`, or by a bootstrap over subjects where one has several pairs.
    """
    values = np.stack([np.asarray(first, float), np.asarray(second, float)], 1)
    subjects = _subjects(subject)
    score = icc_2_1(values)
    if len(values) == len(subjects.strata[0]) or np.isnan(score.value):
        return score
    centred = (values - values.mean()).T[..., None]
    return bootstrap_interval(
        lambda weight: _iccs(centred, weight)[..., 0], subjects, seed=seed, n_resamples=n_resamples
    )


def embedding_icc(
    first: npt.ArrayLike, second: npt.ArrayLike, subject: npt.ArrayLike, *, seed: int = 0, n_resamples: int = 2000
) -> EmbeddingICC:
    """ICC(2,1) of each feature, and of all together, over pairs of scans.

    The multivariate one puts the mean squares, summed over the features, into ICC(2,1): it is the ratio of traces of
    Shou et al. 2013 (I2C2; Cogn Affect Behav Neurosci 13:714-724), with the shift between first and second scans as
    part of the error. Differs: features are standardised over these scans, as probes see them, or the few of largest
    scale would decide.

    Args:
        first: (pairs, features).
        second: (pairs, features), of the same subjects.
        subject: (pairs,), whose scans they are; a subject may have several pairs.
        seed: of the bootstrap over subjects.
        n_resamples: of the bootstrap.

    Returns:
        Values are nan with fewer than 2 pairs, intervals with too few subjects (`bootstrap.MIN_SUBJECTS`); below about
        30 subjects they are somewhat too narrow.

    Raises:
        InputError: a feature that is not a number.
    """
    values = np.stack([np.asarray(first, float), np.asarray(second, float)])
    if not np.isfinite(values).all():
        raise InputError("features of a pair of scans are not finite; look for broken images, or retrain the encoder")
    n_pairs = values.shape[1]
    subjects = _subjects(subject)
    spread = values.std((0, 1)) if values.size else np.zeros(values.shape[2])
    varies = spread > 1e-6 * np.abs(values).max((0, 1), initial=0)  # float32 has no more digits
    values = values[..., varies]
    values = (values - values.mean((0, 1))) / spread[varies] if values.size else values
    if n_pairs < 2 or not varies.any():
        undefined = Score(np.nan, np.nan, np.nan)
        n_subjects = len(subjects.strata[0])
        return EmbeddingICC(undefined, np.nan, np.nan, undefined, n_pairs, n_subjects, int((~varies).sum()))
    statistics = {
        "median": lambda weight: np.nanmedian(_iccs(values, weight), -1),
        "multivariate": lambda weight: _iccs(values, weight, together=True),
    }
    scores = bootstrap_intervals(statistics, subjects, seed=seed, n_resamples=n_resamples)
    lower, upper = np.nanquantile(_iccs(values, np.ones(n_pairs)), [0.25, 0.75])
    return EmbeddingICC(
        scores["median"],
        float(lower),
        float(upper),
        scores["multivariate"],
        n_pairs,
        len(subjects.strata[0]),
        int((~varies).sum()),
    )


def pairs(manifest: pd.DataFrame, *, max_years: float = MAX_YEARS) -> pd.DataFrame:
    """Pairs of scans of one subject that are close in time.

    Time is the difference of the ages at the two scans: ages must be those of the session. Where a cohort repeats the
    age at the first visit in all sessions, or rounds ages to years, follow-ups can't be told from retests: leave these
    out of the manifest.

    Args:
        manifest: one row a scan: `subject_id`, and `age_years`, `session_id`, `site`, `scanner` where they are known.
        max_years: the most that lies between the two.

    Returns:
        One row a pair: `subject_id`; `first`, `second`: positions of the two scans in the manifest, by age and session,
        or by site and scanner for pairs of scanners, so that a scanner's shift has one sign; `years` between them;
        `kind`: "scanner" (the sites differ, or the scanners), "retest" (the same scanner; the same site, where scanners
        are not known), or "unknown" (neither is known). Scans without an age are in no pair.
    """
    manifest = manifest.reset_index(drop=True)
    scans = manifest[["subject_id"]].join(manifest.reindex(columns=["age_years", "session_id", "site", "scanner"]))
    scans["age_years"] = scans["age_years"].astype(float)
    for column in ("session_id", "site", "scanner"):
        scans[column] = scans[column].astype("str")
    scans = scans.sort_values(["age_years", "session_id"], kind="stable")
    scans["order"], scans["position"] = np.arange(len(scans)), scans.index
    both = scans.merge(scans, on="subject_id", suffixes=("", "_2"))
    both = both[both["order"] < both["order_2"]]
    both["years"] = both["age_years_2"] - both["age_years"]
    both = both[both["years"] <= max_years + 1e-9]  # nan is not

    known = {column: both[column].notna() & both[f"{column}_2"].notna() for column in ("site", "scanner")}
    equal = {column: both[column] == both[f"{column}_2"] for column in known}
    differs = (known["site"] & ~equal["site"]) | (known["scanner"] & ~equal["scanner"])
    kind = np.select([differs, known["site"] | known["scanner"]], ["scanner", "retest"], "unknown")

    place, place_2 = (both["site" + s].fillna("") + "\n" + both["scanner" + s].fillna("") for s in ("", "_2"))
    swapped = differs & (place > place_2)
    return pd.DataFrame(
        {
            "subject_id": both["subject_id"],
            "first": both["position"].where(~swapped, both["position_2"]),
            "second": both["position_2"].where(~swapped, both["position"]),
            "years": both["years"],
            "kind": kind,
        }
    ).reset_index(drop=True)


def _subjects(subject: npt.ArrayLike) -> Subjects:
    names, index = np.unique(np.asarray(subject, str), return_inverse=True)
    return Subjects(index, (np.arange(len(names)),))


def _mean_squares(values: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Of subjects, raters and error in a two-way layout: (…, features) each.

    values: (raters, subjects, features); weight: (…, subjects), how often each subject is there.
    """
    k = len(values)
    n = weight.sum(-1)[..., None]
    rater_means = np.stack([weight @ of_rater for of_rater in values]) / n
    mean = rater_means.mean(0)
    subjects = k * (weight @ values.mean(0) ** 2 - n * mean**2)
    raters = n * ((rater_means - mean) ** 2).sum(0)
    total = weight @ (values**2).sum(0) - n * k * mean**2
    error = np.maximum(total - subjects - raters, 0)
    return subjects / (n - 1), raters / (k - 1), error / ((n - 1) * (k - 1))


def _icc(subjects: Array | float, raters: Array | float, error: Array | float, n: Array | float, k: int) -> Array:
    return np.asarray((subjects - error) / (subjects + (k - 1) * error + k * (raters - error) / n))


def _iccs(values: Array, weight: Array, together: bool = False) -> Array:
    """ICC(2,1): (…, features), or (…) of all features together."""
    mean_squares = _mean_squares(values, weight)
    n = weight.sum(-1)
    if together:
        subjects, raters, error = (of_features.sum(-1) for of_features in mean_squares)
        return _icc(subjects, raters, error, n, len(values))
    return _icc(*mean_squares, n[..., None], len(values))
