"""Evaluations, read and checked.

`evaluation.yaml` says what was compared and how, the tables (see `neuro_ssl.evaluating.summary`) what came of it, and
`predictions.parquet` what each model predicted of each scan. Nothing is computed again here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import ValidationError

from neuro_ssl.data.targets import Reference, Target
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Metric
from neuro_ssl.reporting.evaluations.records import EvaluatedModel, EvaluationInfo
from neuro_ssl.reporting.runs.records import Dataset

RECORD, PREDICTIONS = "evaluation.yaml", "predictions.parquet"
_LINE = ("task", "test_set", "model", "role", "protocol")
_SCORE = ("value", "low", "high")
_SEEDS = ("n_seeds", "seeds_low", "seeds_high")
_COUNTS = ("fraction", "n_scans", "n_subjects", "n_train")
COLUMNS = {  # of each table, those that are read
    "scores": (*_LINE, *_COUNTS, "metric", "unit", *_SCORE, *_SEEDS),
    "comparisons": ("task", "test_set", "model", "against", "protocol", "metric", *_SCORE, "p", "p_holm", "test"),
    "label_efficiency": (*_LINE, *_COUNTS, "metric", *_SCORE),
    "subgroups": (*_LINE, "subgroup", "level", "metric", "n_subjects", *_SCORE, "few"),
    "calibration": (*_LINE, "prediction", "observed", "low", "high", "n_subjects"),
    "age_gap": (*_LINE, *(f"slope{of}{end}" for of in ("", "_corrected") for end in ("", "_low", "_high"))),
    "reliability": ("cohort", "model", "what", "pairs", "n_pairs", "n_subjects", *_SCORE),
    "site": ("cohort", "model", "column", "n_groups", "n_subjects", "left_out", *_SCORE, "chance"),
}
_PREDICTED = ("scan_id", "subject_id", "split", "fraction", "replicate", "target", "prediction", *_LINE)
_AGAIN = "delete the folder {} and evaluate again with the command in its evaluation.yaml"
TEST_SETS = {  # in a word, and in words
    "test": ("test split", "test split"),
    "cross_validation": ("cross-validation", "cross-validation by person"),
    "leave_site_out": ("sites left out", "test split, each site by a model of the others"),
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One finished evaluation: its folder, record, tables by name, and the predictions of test scans by all labels."""

    path: Path
    info: EvaluationInfo
    tables: Mapping[str, pd.DataFrame]
    predictions: pd.DataFrame

    @property
    def cohort(self) -> Dataset:
        """The cohort that models are fitted to."""
        return next(iter(self.info.data.values()))

    @property
    def encoders(self) -> list[EvaluatedModel]:
        """The pretrained ones."""
        return [model for model in self.info.models if model.role == "pretrained"]

    @property
    def title(self) -> str:
        """Which encoders on whom."""
        own = self.cohort
        simulated = " (simulated)" if own.simulated and "simulated" not in own.cohort else ""
        encoders = ", ".join(model.name for model in self.encoders) or "no pretrained encoder"
        test_sets = dict.fromkeys(TEST_SETS.get(one.test_set, (f"cohort {one.test_set}",))[0] for one in self.tested)
        return f"{encoders} on cohort {own.cohort}{simulated}: {', '.join(test_sets)}"

    @cached_property
    def tested(self) -> list["Tested"]:
        """Each task on each of its test sets, in the order of the tables."""
        pairs = self.tables["scores"][["task", "test_set"]].drop_duplicates()
        return [Tested(self, str(task), str(name)) for task, name in pairs.itertuples(index=False)]

    @cached_property
    def names(self) -> dict[str, str]:
        """Of each model a short one for figures: without the options of an encoder, unless they tell two apart."""
        short = {model.name: model.name for model in self.info.models}
        for model in self.info.models:
            if model.role == "from_scratch":  # `from scratch, resnet18 encoder.width=16`
                short[model.name] = " ".join(model.name.split(" ")[:3])
            elif model.role == "image_statistics":
                short[model.name] = "volume + intensities"
        return {name: one if list(short.values()).count(one) == 1 else name for name, one in short.items()}


@dataclass(frozen=True, eq=False)
class Tested:
    """One task on one test set, of one evaluation: the unit within which models are compared."""

    evaluation: Evaluation
    task: str
    test_set: str

    def table(self, name: str) -> pd.DataFrame:
        """Its rows of a table; none if there is no such table."""
        return self._tables.get(name, pd.DataFrame())

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            name: table[(table["task"] == self.task) & (table["test_set"] == self.test_set)].reset_index(drop=True)
            for name, table in self.evaluation.tables.items()
            if "task" in table
        }

    @cached_property
    def kind(self) -> Kind:
        """What its metrics tell."""
        return "classification" if PRIMARY["classification"] in set(self.table("scores")["metric"]) else "regression"

    @property
    def primary(self) -> str:
        """The metric that models are compared by."""
        return PRIMARY[self.kind]

    @property
    def metric(self) -> Metric:
        """The same, with its name and direction."""
        return METRICS[self.kind][self.primary]

    @cached_property
    def unit(self) -> str:
        """Of the target, such as years; empty if it has none."""
        units = self.table("scores")["unit"].dropna()
        return str(units.iloc[0]) if len(units) else ""

    @property
    def target(self) -> Target | None:
        """What was predicted, if the record tells."""
        return next((target for target in self.evaluation.info.targets if target.name == self.task), None)

    @property
    def reference(self) -> Reference | None:
        """The paper's score on this task."""
        return self.target.reference if self.target else None

    @property
    def positive(self) -> str:
        """The positive class in words."""
        return self.target.classes[1] if self.target and self.target.classes else "the positive class"

    @property
    def title(self) -> str:
        """The task in words."""
        return self.task.replace("_", " ").capitalize()

    @property
    def where(self) -> str:
        """The test set in words."""
        other = f"cohort {self.test_set}, by a model of this one's training split"
        return TEST_SETS.get(self.test_set, ("", other))[1]

    def count(self, column: str) -> int:
        """`n_scans`, `n_subjects` or `n_train`, the same in all lines."""
        return int(self.table("scores")[column].iloc[0])

    @property
    def counts(self) -> str:
        """How many are judged, in words."""
        judged = f"{self.count('n_scans')} test scans of {self.count('n_subjects')} people"
        return f"{judged}; trained on {self.count('n_train')} scans."

    @property
    def id(self) -> str:
        """Of its part of the page."""
        return re.sub(r"\W+", "-", f"{self.evaluation.path.name}-{self.task}-{self.test_set}").lower()

    def label(self, metric: str | None = None) -> str:
        """A metric's name with its unit, such as `MAE (years)`; without one the primary's."""
        m = METRICS[self.kind][metric or self.primary]
        return f"{m.label} ({self.unit})" if m.in_target_unit and self.unit else m.label


@dataclass(frozen=True)
class Evaluations:
    """Those of a report.

    Attributes:
        finished: newest first.
        superseded: older ones whose every task and test set was judged again in the same folder later.
        unfinished: folders of those that were interrupted, or go on.
    """

    finished: list[Evaluation]
    superseded: list[Path]
    unfinished: list[Path]


def read_evaluations(folders: Sequence[Path], every: bool = False) -> Evaluations:
    """Read evaluations.

    Args:
        folders: of single ones, `results-…`, each with its `evaluation.yaml`.
        every: those too whose every task and test set was judged again in the same folder by a newer one.

    Raises:
        InputError: a file is damaged.
    """
    records = {folder: _record(folder) for folder in folders}
    finished = [_read(folder, record) for folder, record in records.items() if record.get("finished")]
    finished.sort(key=lambda one: one.info.finished, reverse=True)
    judged: set[tuple[Path, str, str]] = set()
    shown: list[Evaluation] = []
    superseded: list[Evaluation] = []
    for one in finished:
        own = {(one.path.parent, tested.task, tested.test_set) for tested in one.tested}
        (superseded if own <= judged and not every else shown).append(one)
        judged |= own
    return Evaluations(
        shown,
        [one.path for one in superseded],
        [folder for folder, record in records.items() if not record.get("finished")],
    )


def _record(folder: Path) -> dict[str, Any]:
    file = folder / RECORD
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: unreadable ({_line(error)}); delete its folder and evaluate again") from error
    if not isinstance(record, dict):
        raise InputError(f"{file}: not a mapping; delete its folder and evaluate again")
    return record


def _read(folder: Path, record: Mapping[str, Any]) -> Evaluation:
    try:
        info = EvaluationInfo.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{folder / RECORD}: {key}: {first['msg']}; {_AGAIN.format(folder.name)}") from error
    tables = {
        name: _table(folder / f"{name}.csv", columns)
        for name, columns in COLUMNS.items()
        if name == "scores" or (folder / f"{name}.csv").exists()
    }
    predictions = _table(folder / PREDICTIONS, _PREDICTED)
    evaluation = Evaluation(folder, info, tables, _at_full_size(predictions))
    known = {model.name for model in info.models}
    if unknown := sorted(set(tables["scores"]["model"]) - known):
        raise InputError(f"{folder / 'scores.csv'}: {unknown[0]} is no model of {RECORD}; {_AGAIN.format(folder.name)}")
    return evaluation


def _table(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: unreadable ({_line(error)}); {_AGAIN.format(file.parent.name)}") from error
    if missing := [name for name in columns if name not in table]:
        raise InputError(f"{file}: lacks the columns {', '.join(missing)}; {_AGAIN.format(file.parent.name)}")
    if table.empty:
        raise InputError(f"{file}: holds no row; {_AGAIN.format(file.parent.name)}")
    return table


def _at_full_size(predictions: pd.DataFrame) -> pd.DataFrame:
    """Test scans, by models that were fitted to all labels."""
    full = predictions["fraction"].eq(predictions["fraction"].max())
    return predictions[full & predictions["split"].eq("test")].reset_index(drop=True)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
