"""Tables of evaluations: the same rows for the page, for Markdown and for LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.evaluations.lines import score_of, subgroup_in_words
from neuro_ssl.reporting.evaluations.reading import Evaluation, Tested
from neuro_ssl.reporting.evaluations.verdicts import (
    QUESTIONS,
    SIGNS,
    call,
    p_value,
    protocol_in_words,
    signed,
    verdict,
)


@dataclass(frozen=True)
class Cell:
    """Of a table: its text, a second line, what it is sorted by, and an element of the page that it leads to."""

    text: str
    small: str = ""
    order: float | None = None
    link: str = ""

    @property
    def plain(self) -> str:
        """On one line."""
        small = self.small if self.small.startswith("[") or not self.small else f"({self.small})"
        return f"{self.text} {small}".strip()


@dataclass(frozen=True)
class Table:
    """Of what, and its cells; the first of each row is its heading."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def overview(evaluation: Evaluation) -> Table:
    """Whether pretraining helps, a line a task and test set."""
    rows = []
    for tested in evaluation.tested:
        verdicts = [verdict(tested, question) for question in QUESTIONS]
        about = f"{tested.where}, {tested.count('n_subjects')} people"
        cells = [Cell(f"{one.sign} {one.answer}", one.counts) for one in verdicts]
        rows.append([Cell(tested.title, about, link=tested.id), *cells])
    header = ["Task", *(question.short for question in QUESTIONS)]
    return Table(f"Does pretraining help? {_whose(evaluation)}", header, rows)


def by_encoder(tested: Tested) -> Table:
    """The three verdicts on each pretrained encoder."""
    rows = []
    for model in tested.evaluation.encoders:
        verdicts = [verdict(tested, question, model.name) for question in QUESTIONS]
        learnt = f"learnt from {', '.join(model.learnt_from)}" if model.learnt_from else ""
        cells = [Cell(f"{one.sign} {one.counts or one.answer}", one.strongest) for one in verdicts]
        rows.append([Cell(model.name, learnt), *cells])
    return Table(f"Verdicts by encoder: {_what(tested)}", ["Encoder", *(q.short for q in QUESTIONS)], rows)


def scores(tested: Tested) -> Table:
    """Every score of every line, and the paper's."""
    table = tested.table("scores")
    metrics = [name for name in METRICS[tested.kind] if name in set(table["metric"])]
    models = {model.name: model for model in tested.evaluation.info.models}
    rows = []
    for (model, protocol), line in table.groupby(["model", "protocol"], sort=False):
        by_metric = {row["metric"]: row for row in line.to_dict("records")}
        own = by_metric[tested.primary]
        seeds = "n/a" if np.isnan(own["seeds_low"]) else f"[{own['seeds_low']:.2f}, {own['seeds_high']:.2f}]"
        words = protocol_in_words(str(protocol))
        rows.append(
            [
                _model_cell(tested.evaluation, str(model)),
                Cell(words),
                *(_score_cell(by_metric[name]) for name in metrics),
                Cell(seeds, f"{own['n_seeds']} seed{'s' if own['n_seeds'] != 1 else ''}", own["seeds_low"]),
                Cell(models[str(model)].seen(tested.test_set)),
            ]
        )
    if reference := tested.reference:
        for words, value in (("fine-tuned", reference.fine_tuned), ("from scratch", reference.from_scratch)):
            if value is not None:
                cells = [Cell(f"{value:g}", order=value) if m == reference.metric else Cell("") for m in metrics]
                name = Cell("Kaczmarek et al. 2025", f"its own test scans of {reference.cohort.upper()}")
                rows.append([name, Cell(words), *cells, Cell(""), Cell("")])
    labels = [tested.label(name) for name in metrics]
    seeds = f"{tested.metric.label} over seeds"
    return Table(f"Scores: {_what(tested)}", ["Model", "Protocol", *labels, seeds, "Leakage"], rows)


def comparisons(tested: Tested) -> Table:
    """Every comparison with its p value, and whether it holds after correction."""
    rows = []
    for row in tested.table("comparisons").to_dict("records"):
        answer = call(tested, row["value"], row["p_holm"])
        value, _, interval = signed(score_of(row)).partition(" ")
        rows.append(
            [
                _model_cell(tested.evaluation, row["model"]),
                _model_cell(tested.evaluation, row["against"]),
                Cell(", ".join(map(protocol_in_words, row["protocol"].split(", ")))),
                Cell(value, interval, row["value"]),
                Cell(f"{SIGNS[answer]} {answer}"),
                Cell(p_value(row["p_holm"]), order=row["p_holm"]),
                Cell(p_value(row["p"]), order=row["p"]),
                Cell(row["test"]),
            ]
        )
    difference = f"{tested.label()}, difference"
    header = ["Model", "Against", "Protocol", difference, "Verdict", "p, Holm", "p", "Test"]
    return Table(f"Comparisons: {_what(tested)}", header, rows)


def label_efficiency(tested: Tested) -> Table | None:
    """The primary metric by share of the labels; None if only all were used."""
    table = tested.table("label_efficiency")
    if table.empty:
        return None
    table = table[table["metric"] == tested.primary]
    sizes = table.groupby("fraction")["n_train"].first().sort_index()
    rows = []
    for (model, protocol), line in table.groupby(["model", "protocol"], sort=False):
        by_fraction = {row["fraction"]: _score_cell(row) for row in line.to_dict("records")}
        cells = [by_fraction.get(fraction, Cell("")) for fraction in sizes.index]
        rows.append([_model_cell(tested.evaluation, str(model)), Cell(protocol_in_words(str(protocol))), *cells])
    shares = [f"{100 * fraction:g} % ({n} scans)" for fraction, n in sizes.items()]  # type: ignore[operator]
    return Table(f"{tested.label()} by share of the labels: {_what(tested)}", ["Model", "Protocol", *shares], rows)


def subgroups(tested: Tested) -> Table:
    """The primary metric of every line, a column a subgroup."""
    table = tested.table("subgroups")
    table = table[table["metric"] == tested.primary]
    levels = {}
    for row in table.drop_duplicates(["subgroup", "level"]).to_dict("records"):
        few = ", few: no claim" if row["few"] else ""
        words = f"{subgroup_in_words(row['subgroup'], row['level'])} ({row['n_subjects']}{few})"
        levels[row["subgroup"], row["level"]] = words
    rows = []
    for (model, protocol), line in table.groupby(["model", "protocol"], sort=False):
        cells = {(row["subgroup"], row["level"]): _score_cell(row) for row in line.to_dict("records")}
        name = _model_cell(tested.evaluation, str(model))
        rows.append([name, Cell(protocol_in_words(str(protocol))), *(cells.get(level, Cell("")) for level in levels)])
    header = ["Model", "Protocol", *levels.values()]
    return Table(f"{tested.label()} by subgroup (people): {_what(tested)}", header, rows)


def age_gap(tested: Tested) -> Table:
    """Slope and correlation of the gap with age, before and after the correction."""
    columns = {
        "slope": "Slope (years a year)",
        "slope_corrected": "Slope, corrected",
        "correlation": "Correlation",
        "correlation_corrected": "Correlation, corrected",
    }
    rows = []
    for row in tested.table("age_gap").to_dict("records"):
        cells = [_cell(Score(row[name], row[f"{name}_low"], row[f"{name}_high"])) for name in columns]
        rows.append([_model_cell(tested.evaluation, row["model"]), Cell(protocol_in_words(row["protocol"])), *cells])
    return Table(f"Age gap: {_what(tested)}", ["Model", "Protocol", *columns.values()], rows)


def reliability(evaluation: Evaluation, cohort: str) -> Table:
    """ICC of embeddings and predictions."""
    table = evaluation.tables["reliability"]
    rows = [
        [
            _model_cell(evaluation, row["model"]),
            Cell(", ".join(map(protocol_in_words, row["what"].split(", ")))),
            Cell(row["pairs"]),
            _score_cell(row),
            Cell(f"{row['n_pairs']} ({row['n_subjects']})", order=row["n_pairs"]),
        ]
        for row in table[table["cohort"] == cohort].to_dict("records")
    ]
    return Table(f"Reliability, cohort {cohort}", ["Model", "What", "Scans on", "ICC(2,1)", "Pairs (people)"], rows)


def site(evaluation: Evaluation, cohort: str) -> Table:
    """How well site and scanner are told from embeddings."""
    table = evaluation.tables["site"]
    rows = [
        [
            Cell(row["model"]),
            Cell(f"{row['n_groups']} {row['column']}s"),
            _score_cell(row),
            Cell(f"{row['chance']:.2f}", order=row["chance"]),
            Cell(str(row["n_subjects"]), order=row["n_subjects"]),
            Cell("" if pd.isna(row["left_out"]) else str(row["left_out"])),
        ]
        for row in table[table["cohort"] == cohort].to_dict("records")
    ]
    header = ["Model", "Of", "Balanced accuracy", "Chance", "People", "Left out, under 5 people"]
    return Table(f"Site and scanner from the embedding, cohort {cohort}", header, rows)


def _whose(evaluation: Evaluation) -> str:
    return f"Cohort {evaluation.cohort.cohort}{' (simulated)' * evaluation.cohort.simulated}"


def _what(tested: Tested) -> str:
    return f"{tested.title}, {tested.where}; {_whose(tested.evaluation)[0].lower()}{_whose(tested.evaluation)[1:]}"


def _model_cell(evaluation: Evaluation, model: str) -> Cell:
    """A name, and below it the options of the encoder."""
    short = evaluation.names[model]
    return Cell(short, model.removeprefix(short).strip()) if model.startswith(short) else Cell(model)


def _score_cell(row: Mapping[Any, Any]) -> Cell:
    return _cell(score_of(row))


def _cell(score: Score) -> Cell:
    value, _, interval = format_score(score).replace("-", "−").partition(" ")
    return Cell(value, interval, score.value)
