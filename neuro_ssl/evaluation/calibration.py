"""What is fitted on validation predictions: thresholds of a classification, the age bias of a brain age.

Tables have the rows of the splits "val" and "test". Each model fits its own: with the columns `replicate` and `fold`,
every combination of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score, bootstrap_intervals, subjects_of
from neuro_ssl.evaluation.closed_form import proportion_interval
from neuro_ssl.evaluation.metrics import (
    SPECIFICITY,
    THRESHOLD,
    Array,
    Predictions,
    ece_bins,
    pearson,
    weighted_mean,
)
from neuro_ssl.evaluation.scores import mean_over, predictions_of

MIN_FIT = 3  # scans: through two, every line is perfect


@dataclass(frozen=True)
class Thresholds:
    """A prediction of at least this is called positive.

    Attributes:
        decision: chosen for the balanced accuracy.
        specific: chosen for the specificity; nan where there was no negative scan to choose it by.
    """

    decision: float
    specific: float


def thresholds(target: Array, prediction: Array, specificity: float = SPECIFICITY) -> Thresholds:
    """Thresholds from validation predictions; each lies midway between two neighbouring ones.

    `decision` maximises the balanced accuracy (Youden 1950); of several that do, it is the nearest to 0.5. Where
    validation lacks a class or all predictions are equal there is nothing to choose by, and it is 0.5. `specific` is
    the lowest threshold with at least this specificity: of fewer than 10 negative scans all are below it.

    Args:
        target: (scans,), 0 or 1.
        prediction: (scans,), probability of 1.
        specificity: to reach on these scans.
    """
    values = np.unique(prediction)
    negative, positive = np.sort(prediction[target == 0]), np.sort(prediction[target == 1])
    decision, specific = THRESHOLD, np.nan
    if len(values) > 1 and len(negative) and len(positive):
        cuts = (values[1:] + values[:-1]) / 2
        below_negative = np.searchsorted(negative, cuts) / len(negative)
        youden = below_negative - np.searchsorted(positive, cuts) / len(positive)
        best = cuts[youden > youden.max() - 1e-9]
        decision = float(best[np.argmin(np.abs(best - THRESHOLD))])
    if len(negative):
        # 1e-9, since 0.9 of a number may come out a little more than the whole number that it is.
        last = negative[int(np.ceil(specificity * len(negative) - 1e-9)) - 1]
        above = values[values > last].min(initial=1.0)
        specific = float((last + above) / 2) if above > last else float(np.nextafter(1, 2))
    return Thresholds(decision, specific)


def with_decisions(table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `decision` and `decision_specific`, by the thresholds that each model's validation rows give.

    Args:
        table: `split`, `target` (0 or 1), `prediction`, and maybe `replicate` and `fold`.

    Returns:
        The table in its order, with two columns of nullable booleans, for the rows of both splits; `decision_specific`
        is missing where validation has no negative scan (see `thresholds`).

    Raises:
        InputError: a column is missing, or a model has no validation rows.
    """

    def decide(val: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        chosen = thresholds(val["target"].to_numpy(float), val["prediction"].to_numpy(float))
        decision, specific = (
            (rows["prediction"] >= threshold).astype("boolean") for threshold in (chosen.decision, chosen.specific)
        )
        if np.isnan(chosen.specific):
            specific = pd.Series(pd.NA, rows.index, dtype="boolean")
        return rows.assign(decision=decision, decision_specific=specific)

    return _for_each_model(table, decide)


def calibration_curve(table: pd.DataFrame, *, n_quantiles: int | None = None) -> pd.DataFrame:
    """Observed frequencies beside predicted probabilities, in the ten bins of the ECE or in quantiles.

    Args:
        table: see `scores.predictions_of`; replicates are pooled.
        n_quantiles: bins of as many scans each; None: those of the ECE, of equal width.

    Returns:
        One row for each bin that has scans: `prediction` (mean), `observed` (share of positive scans), `low`, `high`
        (Wilson's 95 % interval, on the number of subjects), `n_subjects`.
    """
    predictions_of(table, "classification")
    prediction = table["prediction"].to_numpy(float)
    bins = ece_bins(prediction)
    if n_quantiles is not None:
        bins = np.searchsorted(np.quantile(prediction, np.arange(1, n_quantiles) / n_quantiles), prediction)
    rows = []
    for _, scans in table.groupby(bins):
        n, observed = scans["subject_id"].nunique(), float(scans["target"].mean())
        rows.append((scans["prediction"].mean(), observed, *proportion_interval(observed, n), n))
    return pd.DataFrame(rows, columns=["prediction", "observed", "low", "high", "n_subjects"])


def bias_correction(target: Array, prediction: Array) -> tuple[float, float]:
    """Intercept and slope of the line of predicted on true age, from validation predictions; both (scans,), in years.

    Brain age is overestimated in the young and underestimated in the old (slope < 1). Both nan if there are fewer than
    `MIN_FIT` scans, or if all are of one age.
    """
    if len(target) < MIN_FIT or np.ptp(target) == 0:
        return np.nan, np.nan
    slope, intercept = np.polyfit(target, prediction, 1)
    return float(intercept), float(slope)


def with_corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column `corrected`: predicted ages without the age bias that each model has on its validation rows.

    prediction + age − (intercept + slope·age), so that the gap (prediction − age) becomes what is left of the
    prediction beside the line: the second step of Smith et al. 2019 (NeuroImage 200:528-539), linear; written in this
    form by de Lange & Cole 2020 (NeuroImage Clin 26:102229).

    The corrected prediction contains the true age. So its error is no accuracy, and no score here is computed from it:
    it would make noise look like a good model (Butler et al. 2021, Hum Brain Mapp 42:4092-4101).

    Args:
        table: `split`, `target` (age in years), `prediction`, and maybe `replicate` and `fold`.

    Returns:
        The table in its order; `corrected` is nan where `bias_correction` is.

    Raises:
        InputError: a column is missing, or a model has no validation rows.
    """

    def correct(val: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        intercept, slope = bias_correction(val["target"].to_numpy(float), val["prediction"].to_numpy(float))
        return rows.assign(corrected=rows["prediction"] + rows["target"] - (intercept + slope * rows["target"]))

    return _for_each_model(table, correct)


def age_gap(table: pd.DataFrame, *, seed: int = 0, n_resamples: int = 2000) -> dict[str, Score]:
    """How the brain-age gap (predicted minus true age) hangs on age, before and after the correction.

    Args:
        table: test rows of `with_corrected`; see `scores.predictions_of`.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        `slope` and `correlation` of the gap on age, `slope_corrected` and `correlation_corrected`, with intervals over
        subjects: after a correction that holds on these scans, about 0.

    Raises:
        InputError: see `scores.predictions_of`, or the column `corrected` is missing.
    """
    scans, before = predictions_of(table, "regression", "corrected")
    statistics: dict[str, Callable[[Array], Array]] = {
        "slope": mean_over(before, _gap_slope),
        "correlation": mean_over(before, _gap_correlation),
    }
    if known := bool(table["corrected"].notna().all()):
        _, after = predictions_of(table.assign(prediction=table["corrected"]), "regression")
        statistics["slope_corrected"] = mean_over(after, _gap_slope)
        statistics["correlation_corrected"] = mean_over(after, _gap_correlation)
    scores = bootstrap_intervals(statistics, subjects_of(scans, "regression"), seed=seed, n_resamples=n_resamples)
    unknown = Score(np.nan, np.nan, np.nan)
    return scores if known else scores | {"slope_corrected": unknown, "correlation_corrected": unknown}


def _gap_slope(p: Predictions, weight: Array) -> Array:
    age = p.target - weighted_mean(p.target, weight)[..., None]
    return weighted_mean(age * (p.prediction - p.target), weight) / weighted_mean(age * age, weight)


def _gap_correlation(p: Predictions, weight: Array) -> Array:
    return pearson(replace(p, prediction=p.prediction - p.target), weight)


def _for_each_model(table: pd.DataFrame, fit: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """The table with what `fit` adds to each model's rows, from its validation rows and all its rows."""
    if missing := [name for name in ("split", "target", "prediction") if name not in table]:
        raise InputError(f"predictions lack the columns {', '.join(missing)}")
    by = [name for name in ("replicate", "fold") if name in table and table[name].notna().any()]
    models = table.reset_index(drop=True)
    parts = []
    for names, rows in models.groupby(by, dropna=False) if by else [((), models)]:
        val = rows[rows["split"] == "val"]
        if val.empty:
            model = ", ".join(f"{key} {name}" for key, name in zip(by, names, strict=True)) or "the model"
            raise InputError(f"predictions: {model} has no rows of the split val, which thresholds are chosen on")
        parts.append(fit(val, rows))
    return pd.concat(parts).sort_index().set_axis(table.index)
