"""`results.md`: an evaluation for people to read, as Markdown that a terminal shows as it is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neuro_ssl.data.targets import Target
from neuro_ssl.evaluating.folds import CROSS_VALIDATION, LEAVE_SITE_OUT, ON_FILE
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY
from neuro_ssl.reporting.cautions import FEW_SUBJECTS, few_subjects
from neuro_ssl.reporting.cells import format_score, padded

_TEST_SETS = {
    ON_FILE: "test split",
    CROSS_VALIDATION: "cross-validation by person",
    LEAVE_SITE_OUT: "test split, each site by a model of the others",
}
HOW = """\
Every interval is one of 95 %. `value [low, high]`: bootstrap over subjects (BCa; where it is degenerate a closed form).
"Over seeds": t interval of the mean over seeds, which is another uncertainty; n/a below three. Thresholds, and the
correction of age gaps, come from validation scans alone. A model of several seeds or repetitions scores the mean of
their scores. p: DeLong's test for AUROC, else a permutation test, paired by subject; Holm: corrected within the table.
"""

_RELIABILITY = """\
ICC(2,1) between two scans of a person within three months, held-out scans alone. A constant prediction would be
perfectly reliable: read it beside the scores above.
"""
_SITE = """\
Balanced accuracy of a linear classifier, cross-validated by person, on held-out scans. Above chance, the embedding
carries the site, be it by its scanner or by whom it examined.
"""


def write_page(
    title: str,
    warnings: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    targets: Sequence[Target],
    models: Sequence[Model],
) -> str:
    """The whole text.

    Args:
        title: first line.
        warnings: what a reader must know first.
        tables: see `summary` and `reliability`.
        targets: the tasks.
        models: in the order of the tables.
    """
    blocks = [f"# {title}", *[f"**{line}**" for line in warnings], HOW.strip()]
    scores = tables["scores"]
    for target in targets:
        for test_set in scores.loc[scores["task"] == target.name, "test_set"].unique():
            here = {
                name: table[(table["task"] == target.name) & (table["test_set"] == test_set)]
                for name, table in tables.items()
                if {"task", "test_set"} <= set(table)
            }
            blocks += _section(target, str(test_set), here, models)
    if "reliability" in tables:
        blocks += ["## Reliability", _RELIABILITY.strip(), _reliability(tables["reliability"])]
    if "site" in tables:
        blocks += ["## What embeddings know of the site", _SITE.strip(), _site(tables["site"])]
    return "\n\n".join(blocks) + "\n"


def warn_of_few(scores: pd.DataFrame) -> list[str]:
    """A warning for each test set with few subjects."""
    counts = scores.drop_duplicates(["task", "test_set"])
    return [
        few_subjects(row["n_subjects"], f"{row['task']}, {row['test_set']}")
        for row in counts.to_dict("records")
        if row["n_subjects"] < FEW_SUBJECTS
    ]


def _section(target: Target, test_set: str, tables: Mapping[str, pd.DataFrame], models: Sequence[Model]) -> list[str]:
    scores = tables["scores"]
    first = scores.iloc[0]
    where = _TEST_SETS.get(test_set, f"cohort {test_set}, by a model of this one's training split")
    name = target.name.replace("_", " ").capitalize()
    blocks = [
        f"## {name}: {where}",
        f"{first['n_scans']} scans of {first['n_subjects']} subjects, trained on {first['n_train']} scans.",
        _scores(target, scores, models, test_set),
    ]
    if len(tables.get("comparisons", ())):
        blocks += ["### Comparisons", _comparisons(target, tables["comparisons"])]
    if len(tables.get("label_efficiency", ())):
        blocks += ["### Label efficiency", _label_efficiency(target, tables["label_efficiency"])]
    if len(tables.get("age_gap", ())):
        blocks += [
            "### Age gap",
            "Prediction less age, which is corrected by a line fitted to validation scans. The corrected prediction "
            "contains the true age, so its error is no accuracy, and none is given.",
            _intervals(tables["age_gap"], ["model", "protocol"]),
        ]
    if len(tables.get("subgroups", ())):
        blocks += ["### Subgroups", _subgroups(target, tables["subgroups"])]
    return blocks


def _scores(target: Target, scores: pd.DataFrame, models: Sequence[Model], test_set: str) -> str:
    leakage = {
        model.name: f"{model.leakage[test_set].verdict}{', learnt from ' * bool(model.learnt_from)}"
        f"{', '.join(model.learnt_from)}"
        for model in models
        if model.role == "pretrained"
    }
    metrics = METRICS[target.kind]
    primary = PRIMARY[target.kind]
    shown = list(scores["metric"].unique())
    labels = [
        f"{metrics[name].label} ({target.unit})"
        if target.unit and metrics[name].in_target_unit
        else metrics[name].label
        for name in shown
    ]
    rows = [["Model", "Protocol", *labels, f"{metrics[primary].label} over seeds (n)", "Leakage"]]
    for (model, protocol), line in scores.groupby(["model", "protocol"], sort=False):
        by_metric = line.set_index("metric")
        cells = [format_score(_score(by_metric.loc[name])) for name in shown]
        own: Any = by_metric.loc[primary]
        seeds = _range(own["seeds_low"], own["seeds_high"]) + f" ({own['n_seeds']})"
        rows.append([str(model), _words(str(protocol)), *cells, seeds, str(leakage.get(str(model), ""))])
    if target.reference:
        rows += _references(target, shown)
    return padded(rows)


def _references(target: Target, metrics: Sequence[str]) -> list[list[str]]:
    """The paper's figures, as lines of the table."""
    reference = target.reference
    assert reference is not None
    lines = []
    for protocol, value in (("finetune", reference.fine_tuned), ("from_scratch", reference.from_scratch)):
        if value is not None:
            cells = [f"{value:g}" if name == reference.metric else "" for name in metrics]
            lines.append(
                [f"Kaczmarek et al. 2025, its own test scans of {reference.cohort}", _words(protocol), *cells, "", ""]
            )
    return lines


def _comparisons(target: Target, table: pd.DataFrame) -> str:
    label = METRICS[target.kind][PRIMARY[target.kind]].label
    rows = [["Model", "Against", "Protocol", f"{label}, difference", "p", "p, Holm", "Test"]]
    for _, row in table.iterrows():
        numbers = [format_score(_score(row)), _p(row["p"]), _p(row["p_holm"]), str(row["test"])]
        rows.append([row["model"], row["against"], _words(row["protocol"]), *numbers])
    return padded(rows)


def _label_efficiency(target: Target, table: pd.DataFrame) -> str:
    table = table[table["metric"] == PRIMARY[target.kind]]
    fractions = sorted(table["fraction"].unique())
    sizes = table.groupby("fraction")["n_train"].first()
    rows = [["Model", "Protocol", *(f"{100 * fraction:g} % (n = {sizes[fraction]})" for fraction in fractions)]]
    for (model, protocol), line in table.groupby(["model", "protocol"], sort=False):
        by_fraction = line.set_index("fraction")
        cells = [format_score(_score(by_fraction.loc[f])) if f in by_fraction.index else "" for f in fractions]
        rows.append([str(model), _words(str(protocol)), *cells])
    return f"{METRICS[target.kind][PRIMARY[target.kind]].label} by share of the training persons.\n\n{padded(rows)}"


def _subgroups(target: Target, table: pd.DataFrame) -> str:
    """The first score, a line a subgroup, of pretrained models and what is nearest to them."""
    table = table[table["metric"] == PRIMARY[target.kind]]
    if (table["role"] == "pretrained").any():
        table = table[table["role"].isin(["image_statistics", "pretrained"])]
    lines = table[["model", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    columns = list(lines)
    rows = [["Subgroup", "Persons", *(f"{model}, {_words(protocol)}" for model, protocol in columns)]]
    for (group, level), some in table.groupby(["subgroup", "level"], sort=False):
        cells = some.set_index(["model", "protocol"])
        n, few = some["n_subjects"].iloc[0], some["few"].iloc[0]
        scores = [format_score(_score(cells.loc[column])) for column in columns]
        rows.append([f"{_words(str(group))} {level}", f"{n}{', few' if few else ''}", *scores])
    label = METRICS[target.kind][PRIMARY[target.kind]].label
    return f"{label}. Few: under 10 persons, no claim. Other models: subgroups.csv.\n\n{padded(rows)}"


def _reliability(table: pd.DataFrame) -> str:
    rows = [["Cohort", "Model", "What", "Scans on", "ICC(2,1)", "Pairs (persons)"]]
    for row in table.to_dict("records"):
        counts = f"{row['n_pairs']} ({row['n_subjects']})"
        rows.append([row["cohort"], row["model"], _words(row["what"]), row["pairs"], format_score(_score(row)), counts])
    return padded(rows)


def _site(table: pd.DataFrame) -> str:
    rows = [["Cohort", "Model", "Of", "Balanced accuracy", "Chance", "Persons", "Left out, under 5 persons"]]
    for row in table.to_dict("records"):
        of = f"{row['n_groups']} {row['column']}s"
        numbers = [format_score(_score(row)), f"{row['chance']:.2f}", str(row["n_subjects"]), row["left_out"] or ""]
        rows.append([row["cohort"], row["model"], of, *numbers])
    return padded(rows)


def _intervals(table: pd.DataFrame, keys: Sequence[str]) -> str:
    """Columns `x`, `x_low`, `x_high` as one cell each."""
    names = [name for name in table if f"{name}_low" in table and not table[name].isna().all()]
    rows = [[*(key.capitalize() for key in keys), *(str(name).replace("_", " ") for name in names)]]
    for row in table.to_dict("records"):
        scores = (Score(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in names)
        rows.append([*(_words(str(row[key])) for key in keys), *map(format_score, scores)])
    return padded(rows)


def _score(row: Any) -> Score:
    return Score(row["value"], row["low"], row["high"])


def _range(low: float, high: float) -> str:
    return "n/a" if math.isnan(low) else f"[{low:.2f}, {high:.2f}]"


def _p(value: float) -> str:
    return "n/a" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")
