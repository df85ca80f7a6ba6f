"""Scores of subgroups: by sex, age band, site, scanner, diagnosis.

A subgroup's scores are the whole table's, of its scans alone: their intervals say how well its score is known, not that
two subgroups differ. Many subgroups are looked at, so that some will stand out by chance.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score, bootstrap_intervals, subjects_of
from neuro_ssl.evaluation.closed_form import auroc_interval
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Predictions
from neuro_ssl.evaluation.scores import class_sizes, mean_over, predictions_of

SUBGROUPS = ("sex", "age_band", "site", "scanner", "diagnosis")
# Young adults, middle age, and the two decades and a half in which dementia becomes common, divided in two. Fixed,
# unlike quantiles, so that a band means the same in every cohort and report.
AGE_BANDS_YEARS = (0, 40, 60, 75, np.inf)
AGE_BANDS = ("<40", "40–59", "60–74", "≥75")
UNKNOWN = "unknown"
FEW_SUBJECTS = 10  # below, a score is shown, but nothing can be claimed from it


def subgroups(
    table: pd.DataFrame,
    kind: Kind,
    *,
    by: Sequence[str] = SUBGROUPS,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
) -> pd.DataFrame:
    """The scores of every level of each column, with 95 % intervals by a bootstrap over its subjects.

    Args:
        table: see `scores.predictions_of`, with `scan_id`, and the columns to group by, the same in all replicates.
        kind: "classification" or "regression".
        by: columns of the table; `age_band` stands for the bands of `age_years`. A column that isn't there, or holds no
            value, is left out; a missing value is the level "unknown".
        metrics: keys of `METRICS[kind]`; None: the primary one.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        One row a subgroup, level and metric: `subgroup`, `level`, `metric`, `n_subjects`, `n_scans`, `value`, `low`,
        `high`, `few` (fewer than `FEW_SUBJECTS` subjects). What needs both classes is nan where a level has one, as
        with the diagnosis that was predicted. Where the bootstrap has no interval, the AUROC alone has its closed form.
        A subject whose level changes between scans counts in each.

    Raises:
        InputError: see `scores.predictions_of`, or an unknown metric.
    """
    metrics = [PRIMARY[kind]] if metrics is None else metrics
    if unknown := [metric for metric in metrics if metric not in METRICS[kind]]:
        raise InputError(f"metric {unknown[0]!r} is none of {kind}; choose from {', '.join(METRICS[kind])}")
    scans, replicates = predictions_of(table, kind, "scan_id")
    described = table.drop_duplicates("scan_id").set_index("scan_id").loc[scans["scan_id"]]
    rows = []
    for column in by:
        for level, inside in _levels(described, column).items():
            members = scans[inside]
            n_subjects = members["subject_id"].nunique()
            scores = _scores(members, [_part(p, inside) for p in replicates], kind, metrics, seed, n_resamples)
            for metric, score in scores.items():
                rows.append(
                    {
                        "subgroup": column,
                        "level": level,
                        "metric": metric,
                        "n_subjects": n_subjects,
                        "n_scans": len(members),
                        "value": score.value,
                        "low": score.low,
                        "high": score.high,
                        "few": n_subjects < FEW_SUBJECTS,
                    }
                )
    columns = ["subgroup", "level", "metric", "n_subjects", "n_scans", "value", "low", "high", "few"]
    return pd.DataFrame(rows, columns=columns)


def _levels(described: pd.DataFrame, column: str) -> dict[str, npt.NDArray[np.bool_]]:
    """The scans of each level: masks (scans,). Bands in the order of age, others by name, unknown last."""
    if ("age_years" if column == "age_band" else column) not in described:
        return {}
    if column == "age_band":
        values = pd.cut(described["age_years"], AGE_BANDS_YEARS, right=False, labels=AGE_BANDS)
    else:
        values = described[column].map(str, na_action="ignore").astype("category")
    missing = values.isna().to_numpy()
    if missing.all():
        return {}
    levels = {str(level): (values == level).to_numpy() for level in values.cat.categories}
    levels[UNKNOWN] = levels.pop(UNKNOWN, False) | missing  # last, and one with what the table itself calls so
    return {level: inside for level, inside in levels.items() if inside.any()}


def _part(p: Predictions, inside: npt.NDArray[np.bool_]) -> Predictions:
    """Some of the scans."""
    fields = {name: values[inside] for name, values in vars(p).items() if values is not None}
    return replace(p, **fields)


def _scores(
    scans: pd.DataFrame,
    replicates: Sequence[Predictions],
    kind: Kind,
    metrics: Sequence[str],
    seed: int,
    n_resamples: int,
) -> dict[str, Score]:
    subjects = subjects_of(scans, kind)
    statistics = {metric: mean_over(replicates, METRICS[kind][metric].compute) for metric in metrics}
    scores = bootstrap_intervals(statistics, subjects, seed=seed, n_resamples=n_resamples)
    for metric, score in scores.items():
        if not METRICS[kind][metric].interval:
            scores[metric] = Score(score.value, np.nan, np.nan)
    if "auroc" in scores and np.isnan(scores["auroc"].low) and not np.isnan(scores["auroc"].value):
        scores["auroc"] = _closed_form(scores["auroc"].value, replicates, subjects.subject)
    return scores


def _closed_form(auroc: float, replicates: Sequence[Predictions], subject: npt.NDArray[np.intp]) -> Score:
    """The AUROC of few subjects, or of perfectly separated ones, as `scores.score_predictions` gives it."""
    if all(np.ptp(p.prediction[part]) == 0 for p in replicates for part in p.parts):
        return Score(auroc, np.nan, np.nan)  # 0.5 by definition
    return Score(auroc, *auroc_interval(auroc, *class_sizes(replicates[0], subject)))
