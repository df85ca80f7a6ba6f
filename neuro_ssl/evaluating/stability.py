"""How stable embeddings and predictions are when a person is scanned again, and what embeddings know of the site.

    reliability.csv   ICC(2,1) over scans of a person days apart, on one scanner and on two: of each feature (median),
                      of all features together, and of predictions
    site.csv          balanced accuracy of telling site and scanner from the embedding, beside chance

Embeddings: scans that no model here was fitted to. Of untrained encoders, seed 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.console import progress_bar
from neuro_ssl.evaluating.folds import LEAVE_SITE_OUT, ON_FILE
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.statistics import Statistics
from neuro_ssl.evaluating.summary import LINE, one_scanner_a_site
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.reliability import embedding_icc, pairs, prediction_icc
from neuro_ssl.evaluation.site_predictability import site_predictability

Spaces = Callable[[Model], Mapping[str, npt.NDArray[np.float64]]]
FEWEST_PAIRS = 5


def stability(
    models: Sequence[Model],
    scans: Mapping[str, pd.DataFrame],
    space: Spaces,
    predictions: pd.DataFrame,
    statistics: Statistics,
) -> dict[str, pd.DataFrame]:
    """The two tables, without those that the scans don't allow.

    Args:
        models: in the order of the tables.
        scans: the manifest of each cohort, the one that models are fitted to first.
        space: the features of each cohort's scans, of a model with one seed.
        predictions: see `neuro_ssl.evaluating.predictions`.
        statistics: how intervals are computed.
    """
    by_cohort = {name: pairs(rows) for name, rows in scans.items()}
    reliability: list[dict[str, Any]] = []
    site: list[dict[str, Any]] = []
    embedding = [model for model in models if model.role in ("image_statistics", "untrained", "pretrained")]
    for model in progress_bar(iterable=embedding, desc="reliability", unit="model", delay=5):
        spaces = space(replace(model, weights=model.weights[:1]))
        for place, (cohort, rows) in enumerate(scans.items()):
            mine = held_out(rows, predictions) if place == 0 else np.ones(len(rows), bool)
            about = {"cohort": cohort, "model": model.name}
            found = spaces[cohort]
            reliability += [about | row for row in _of_embedding(found, by_cohort[cohort], mine, statistics)]
            site += [about | row for row in _of_site(found[mine], rows[mine], statistics)]
    reliability += _of_predictions(predictions, by_cohort, scans, statistics)
    tables = {"reliability": pd.DataFrame(reliability), "site": pd.DataFrame(site)}
    return {name: table for name, table in tables.items() if len(table)}


def held_out(scans: pd.DataFrame, predictions: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Validation and test scans of the split on file; where there is another division alone, all that was tested."""
    own = predictions[predictions["test_set"].eq(ON_FILE) | predictions["split"].eq("test")]
    return scans["scan_id"].isin(own["scan_id"]).to_numpy()


def _of_embedding(
    features: npt.NDArray[np.float64], found: pd.DataFrame, held_out: npt.NDArray[np.bool_], statistics: Statistics
) -> list[dict[str, Any]]:
    rows = []
    for kind, some in _by_kind(found[held_out[found["first"]] & held_out[found["second"]]]):
        first, second = features[some["first"]], features[some["second"]]
        icc = embedding_icc(first, second, some["subject_id"], seed=statistics.seed, n_resamples=statistics.n_resamples)
        about = {"pairs": kind, "n_pairs": icc.n_pairs, "n_subjects": icc.n_subjects}
        rows.append({"what": "embedding, all features together", **about, **vars(icc.multivariate)})
        quartiles = {"lower_quartile": icc.lower_quartile, "upper_quartile": icc.upper_quartile}
        rows.append({"what": "embedding, median feature", **about, **vars(icc.median), **quartiles})
    return rows


def _of_predictions(
    predictions: pd.DataFrame,
    by_cohort: Mapping[str, pd.DataFrame],
    scans: Mapping[str, pd.DataFrame],
    statistics: Statistics,
) -> list[dict[str, Any]]:
    """Of test scans; the prediction of a scan is the mean over seeds and repetitions."""
    test = predictions[predictions["split"].eq("test") & predictions["fraction"].eq(predictions["fraction"].max())]
    test = test[test["role"] != "constant"]
    rows = []
    for key, line in test.groupby(LINE, sort=False):
        about = dict(zip(LINE, key, strict=True))
        test_set = str(about["test_set"])
        cohort = test_set if test_set in scans else next(iter(scans))
        mean = line.groupby("scan_id")["prediction"].mean().reindex(scans[cohort]["scan_id"]).to_numpy()
        found = by_cohort[cohort]
        if test_set == LEAVE_SITE_OUT:  # scans at two sites are predicted by two models
            found = found[found["kind"] != "scanner"]
        found = found[np.isfinite(mean[found["first"]]) & np.isfinite(mean[found["second"]])]
        for kind, some in _by_kind(found):
            icc: Score = prediction_icc(
                mean[some["first"]],
                mean[some["second"]],
                some["subject_id"],
                seed=statistics.seed,
                n_resamples=statistics.n_resamples,
            )
            what = f"prediction of {about['task']}, {about['protocol']}"
            n_subjects = some["subject_id"].nunique()
            rows.append(
                {
                    "cohort": cohort,
                    "model": about["model"],
                    "what": what if test_set in (ON_FILE, cohort) else f"{what}, {test_set}",
                    "pairs": kind,
                    "n_pairs": len(some),
                    "n_subjects": n_subjects,
                    **vars(icc),
                }
            )
    return rows


def _by_kind(found: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    names = {"retest": "same scanner", "scanner": "another scanner"}
    return [
        (names[str(kind)], some) for kind, some in found.groupby("kind") if kind in names and len(some) >= FEWEST_PAIRS
    ]


def _of_site(features: npt.NDArray[np.float64], scans: pd.DataFrame, statistics: Statistics) -> list[dict[str, Any]]:
    rows = []
    for column in ("site", "scanner"):
        if column not in scans or scans[column].nunique() < 2 or (column == "scanner" and one_scanner_a_site(scans)):
            continue
        found = site_predictability(
            features,
            scans[column].to_numpy(),
            scans["subject_id"].to_numpy(),
            seed=statistics.seed,
            n_resamples=statistics.n_resamples,
        )
        if np.isnan(found.score.value):
            continue
        rows.append(
            {
                "column": column,
                "n_groups": len(found.n_subjects),
                "n_subjects": sum(found.n_subjects.values()),
                "left_out": ", ".join(found.left_out),
                **vars(found.score),
                "chance": found.chance,
            }
        )
    return rows
