"""From predictions to tables: scores, comparisons, label efficiency, subgroups, calibration, age gaps.

    scores.csv             every score of every line with its interval over subjects, and over seeds
    comparisons.csv        who beats whom, paired on the same subjects, Holm's correction within a table
    label_efficiency.csv   the first score by share of the labels
    subgroups.csv          the first score by sex, age, site, scanner, diagnosis
    calibration.csv        classification: predicted and observed share of the positive class
    age_gap.csv            brain age: slope of the gap on age, before and after correction

A table is that of one task and test set.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuro_ssl.console import progress_bar
from neuro_ssl.data.targets import Target
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.statistics import Statistics
from neuro_ssl.evaluation.calibration import age_gap, calibration_curve, with_corrected, with_decisions
from neuro_ssl.evaluation.comparisons import compare, holm
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY
from neuro_ssl.evaluation.scores import mean_over, over_replicates, predictions_of, score_predictions
from neuro_ssl.evaluation.subgroups import SUBGROUPS, subgroups

LINE = ["task", "test_set", "model", "role", "protocol"]
TABLES = ("scores", "comparisons", "label_efficiency", "subgroups", "calibration", "age_gap")


def decided(predictions: pd.DataFrame, target: Target) -> pd.DataFrame:
    """The test rows of one line, with what the validation rows decide: thresholds, or the corrected age."""
    if target.classes:
        predictions = with_decisions(predictions)
    elif target.target == "age_years":
        predictions = with_corrected(predictions)
    return predictions[predictions["split"] == "test"].reset_index(drop=True)


def summarise(
    predictions: pd.DataFrame, targets: Sequence[Target], models: Sequence[Model], statistics: Statistics
) -> dict[str, pd.DataFrame]:
    """All tables, by name.

    Args:
        predictions: see `neuro_ssl.evaluating.predictions`.
        targets: the tasks.
        models: in the order of the tables.
        statistics: how intervals are computed.
    """
    by_name = {target.name: target for target in targets}
    order = {model.name: place for place, model in enumerate(models)}
    full = predictions["fraction"].max()
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    groups = predictions.groupby(["task", "test_set"], sort=False)
    n_lines = len(predictions[[*LINE, "fraction"]].drop_duplicates())
    with progress_bar(total=n_lines, desc="statistics", unit="line", delay=5) as bar:
        for (task, _), group in groups:
            target = by_name[str(task)]
            lines: dict[tuple[str, str], pd.DataFrame] = {}
            for key, line in sorted(group.groupby([*LINE, "fraction"]), key=lambda item: order[str(item[0][2])]):
                about = dict(zip([*LINE, "fraction"], key, strict=True))
                table = decided(line, target)
                scores = list(_scores(table, target, statistics))
                counts = _counts(table)
                if about["fraction"] == full:
                    tables["scores"] += [about | counts | score for score in scores]
                    tables["subgroups"] += _rows(about, _subgroups(table, target, statistics))
                    if target.classes and about["role"] != "constant":
                        tables["calibration"] += _rows(about, calibration_curve(table))
                    if target.target == "age_years" and about["role"] != "constant":
                        tables["age_gap"].append(about | _age_gap(table, statistics))
                    lines[str(about["model"]), str(about["protocol"])] = table
                if predictions["fraction"].nunique() > 1:
                    tables["label_efficiency"] += [about | counts | score for score in scores]
                bar.update()
            about = {"task": task, "test_set": group["test_set"].iloc[0]}
            tables["comparisons"] += [about | row for row in _comparisons(lines, target, models, statistics)]
    return {name: pd.DataFrame(rows) for name, rows in tables.items() if rows}


def _counts(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "n_scans": table["scan_id"].nunique(),
        "n_subjects": table["subject_id"].nunique(),
        "n_train": round(float(table["n_train"].mean())),
        "n_replicates": table["replicate"].nunique(),
    }


def _scores(table: pd.DataFrame, target: Target, statistics: Statistics) -> Iterator[dict[str, Any]]:
    found = score_predictions(table, target.kind, seed=statistics.seed, n_resamples=statistics.n_resamples)
    by_seed = [_values(part, target) for _, part in table.groupby(["seed", "label_seed"])]
    for name, score in found.items():
        seeds = over_replicates([values[name] for values in by_seed])
        metric = METRICS[target.kind][name]
        yield {
            "metric": name,
            "unit": target.unit if metric.in_target_unit else None,
            **vars(score),
            "n_seeds": len(by_seed),
            "seeds_low": seeds.low,
            "seeds_high": seeds.high,
        }


def _values(table: pd.DataFrame, target: Target) -> dict[str, float]:
    """Every score, without interval."""
    scans, replicates = predictions_of(table, target.kind)
    weight = np.ones(len(scans))
    with np.errstate(all="ignore"):
        return {
            name: float(mean_over(replicates, metric.compute)(weight)) for name, metric in METRICS[target.kind].items()
        }


def _subgroups(table: pd.DataFrame, target: Target, statistics: Statistics) -> pd.DataFrame:
    by = [name for name in SUBGROUPS if name != target.target and not (name == "scanner" and one_scanner_a_site(table))]
    return subgroups(table, target.kind, by=by, seed=statistics.seed, n_resamples=statistics.n_resamples)


def one_scanner_a_site(scans: pd.DataFrame) -> bool:
    """Whether scanners say nothing that sites don't."""
    if not {"site", "scanner"} <= set(scans):
        return False
    both = scans[["site", "scanner"]].drop_duplicates()
    return not both["site"].duplicated().any() and not both["scanner"].duplicated().any()


def _age_gap(table: pd.DataFrame, statistics: Statistics) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, score in age_gap(table, seed=statistics.seed, n_resamples=statistics.n_resamples).items():
        row |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    return row


def _rows(about: Mapping[str, Any], table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{**about, **{str(name): value for name, value in row.items()}} for row in table.to_dict("records")]


def _comparisons(
    lines: Mapping[tuple[str, str], pd.DataFrame], target: Target, models: Sequence[Model], statistics: Statistics
) -> list[dict[str, Any]]:
    """Of pretrained models with what they have to beat, and with each other, under one protocol."""
    metric = PRIMARY[target.kind]
    rows = []
    for first, second, protocols in pairs(lines, models):
        found = compare(
            lines[first],
            lines[second],
            target.kind,
            metric,
            seed=statistics.seed,
            n_resamples=statistics.n_resamples,
            n_permutations=statistics.n_permutations,
        )
        rows.append({"model": first[0], "against": second[0], "protocol": protocols, "metric": metric, **vars(found)})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def pairs(
    lines: Mapping[tuple[str, str], Any], models: Sequence[Model]
) -> Iterator[tuple[tuple[str, str], tuple[str, str], str]]:
    """Which lines of a table are compared, each a model and a protocol; and the protocol, or both."""
    of: Callable[..., list[Model]] = lambda *roles: [model for model in models if model.role in roles]  # noqa: E731
    protocols = list(dict.fromkeys(protocol for _, protocol in lines))
    pretrained = of("pretrained")
    for place, model in enumerate(pretrained):
        rivals = [
            other
            for other in of("image_statistics", "untrained")
            if other.role != "untrained" or other.name == model.untrained
        ]
        for protocol in protocols:
            for other in [*rivals, *pretrained[place + 1 :]]:
                if (model.name, protocol) in lines and (other.name, protocol) in lines:
                    yield (model.name, protocol), (other.name, protocol), protocol
        for other in of("from_scratch"):
            if (model.name, "finetune") in lines and (other.name, "from_scratch") in lines:
                yield (model.name, "finetune"), (other.name, "from_scratch"), "finetune, from_scratch"
    if not pretrained:
        for model in of("untrained"):
            for other in of("image_statistics"):
                for protocol in protocols:
                    if (model.name, protocol) in lines and (other.name, protocol) in lines:
                        yield (model.name, protocol), (other.name, protocol), protocol
