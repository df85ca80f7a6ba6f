"""Results for machines: one row a score or comparison, at full precision, written as CSV."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.reporting.runs.comparisons import Comparison
from neuro_ssl.reporting.runs.models import Model, TaskGroup
from neuro_ssl.reporting.runs.reading import DownstreamRun
from neuro_ssl.reporting.runs.tables import UNDEFINED, leakage_verdict, score_of


def tidy_results(groups: Sequence[TaskGroup]) -> pd.DataFrame:
    """One row a run and metric; one a metric of the means over a model's seeds; baselines and the paper's scores, too.

    `low` and `high` are over subjects, `seeds_low` and `seeds_high` over seeds.
    """
    return pd.DataFrame([row for group in groups for row in _of_group(group)])


def tidy_comparisons(groups: Sequence[TaskGroup], comparisons: Sequence[Sequence[Comparison]]) -> pd.DataFrame:
    """One row a pair of models that is compared by a test, with p before and after Holm's correction in its task."""
    return pd.DataFrame(
        [
            {
                "cohort": group.dataset.cohort,
                "manifest_hash": group.dataset.manifest_hash,
                "split_hash": group.dataset.split_hash,
                "task": group.task,
                "target": group.runs[0].results.target,
                "model": pair.first,
                "against": pair.second,
                "metric": group.primary,
                "difference": pair.difference.value,
                "low": pair.difference.low,
                "high": pair.difference.high,
                "p": pair.p,
                "p_holm": pair.p_holm,
                "test": pair.test,
            }
            for group, of_group in zip(groups, comparisons, strict=True)
            for pair in of_group
            if pair.second
        ]
    )


def _of_group(group: TaskGroup) -> Iterator[dict[str, Any]]:
    for run in group.runs:
        common = _about(run) | {"run": run.info.name, "seed": run.info.seed}
        how = _how(run) | {"model": group.name(run), "leakage": leakage_verdict(run), "n_seeds": 1}
        yield from _rows(group, common | how, {name: score_of(run.results.scores, name) for name in group.metrics})
        baseline = dict.fromkeys(_how(run), "") | {"protocol": "baseline"}
        scores = {name: score_of(run.results.baseline.scores, name) for name in group.metrics}
        yield from _rows(group, common | baseline, scores)
    for model in group.models:
        if len(model.runs) > 1:
            yield from _means(group, model)
    yield from _reference(group)


def _means(group: TaskGroup, model: Model) -> Iterator[dict[str, Any]]:
    about = _about(model.runs[0]) | _how(model.runs[0]) | {"model": model.name, "n_seeds": len(model.runs)}
    scores = {name: model.scores.get(name, UNDEFINED) for name in group.metrics}
    for row in _rows(group, about, scores):
        seeds = model.over_seeds(row["metric"])
        yield row | {"seeds_low": seeds.low, "seeds_high": seeds.high}


def _about(run: DownstreamRun) -> dict[str, Any]:
    results, dataset = run.results, run.info.dataset
    return {
        "cohort": dataset.cohort,
        "simulated": dataset.simulated,
        "grid": dataset.grid,
        "manifest_hash": dataset.manifest_hash,
        "split_hash": dataset.split_hash,
        "split": dataset.split,
        "task": results.task,
        "target": results.target,
        "multitask": results.multitask,
        "n_test_scans": results.n_test_scans,
        "n_test_subjects": results.n_test_subjects,
    }


def _how(run: DownstreamRun) -> dict[str, Any]:
    return {
        "protocol": run.results.protocol,
        "initialisation": run.results.initialisation,
        "weights": run.info.weights.name if run.info.weights else "",
        "encoder": run.info.encoder.name,
    }


def _rows(group: TaskGroup, about: Mapping[str, Any], scores: Mapping[str, Score]) -> Iterator[dict[str, Any]]:
    for name, score in scores.items():
        unit = group.unit if group.metrics[name].in_target_unit else ""
        yield {**about, "metric": name, "unit": unit, "value": score.value, "low": score.low, "high": score.high}


def _reference(group: TaskGroup) -> Iterator[dict[str, Any]]:
    """The paper's scores, which belong to its cohort and to no run."""
    reference = group.reference
    if reference is None:
        return
    common = {"cohort": reference.cohort, "task": group.task, "target": group.runs[0].results.target}
    unit = group.unit if METRICS[group.kind][reference.metric].in_target_unit else ""
    for how, value in (("finetune", reference.fine_tuned), ("from_scratch", reference.from_scratch)):
        if value is not None:
            yield common | {"protocol": f"paper_{how}", "metric": reference.metric, "unit": unit, "value": value}
