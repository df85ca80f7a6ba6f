"""Features of scans that no model here was fitted to, for pictures of them: `features.parquet`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.data.targets import Target
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.stability import held_out

MAX_SCANS = 2000  # of a cohort; 512 features of them are 4 MB an encoder
LABELS = ("age_years", "sex", "diagnosis", "nihss", "site", "scanner")


def held_out_features(
    models: Sequence[Model],
    scans: Mapping[str, pd.DataFrame],
    space: Callable[[Model], Mapping[str, npt.NDArray[np.float64]]],
    predictions: pd.DataFrame,
    targets: Sequence[Target],
) -> pd.DataFrame | None:
    """What every encoder makes of the same held-out scans: pretrained ones, their like untrained (seed 0), statistics.

    Args:
        models: in the order of the tables.
        scans: the manifest of each cohort, the one that models are fitted to first.
        space: the features of each cohort's scans, of a model with one seed.
        predictions: see `neuro_ssl.evaluating.predictions`.
        targets: whose columns are written too.

    Returns:
        One row a model and scan: `model`, `role`, `cohort`, `scan_id`, `subject_id`, `split` (val or test), what is
        known of the scan, `n_held_out` (scans of the cohort, of which at most `MAX_SCANS` are drawn, with seed 0), and
        `features`, a list of float32. None where all models are trained from scratch.
    """
    parts = []
    for model in models:
        if model.role not in ("image_statistics", "untrained", "pretrained"):
            continue
        spaces = space(replace(model, weights=model.weights[:1]))
        for place, (cohort, rows) in enumerate(scans.items()):
            where = np.flatnonzero(held_out(rows, predictions)) if place == 0 else np.arange(len(rows))
            n_held_out = len(where)
            if n_held_out > MAX_SCANS:
                where = np.sort(np.random.default_rng(0).choice(where, MAX_SCANS, replace=False))
            known = dict.fromkeys([*LABELS, *(target.target for target in targets)])
            columns = [name for name in ("scan_id", "subject_id", *known) if name in rows]
            part = rows.iloc[where][columns].assign(
                model=model.name,
                role=model.role,
                cohort=cohort,
                split=rows["split"].iloc[where].where(rows["split"].iloc[where].eq("val"), "test"),
                n_held_out=n_held_out,
                features=list(spaces[cohort][where].astype(np.float32)),
            )
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else None
