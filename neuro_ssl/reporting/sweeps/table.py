"""A sweep as a table: points that differ by seed alone are one row, and rows are ranked by validation.

The test split plays no part in the ranking. Where a sweep compares, and so opened it, its score stands beside.
"""

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.representation import better
from neuro_ssl.evaluation.scores import over_replicates
from neuro_ssl.reporting.runs.tables import UNDEFINED
from neuro_ssl.reporting.sweeps.reading import Outcome, Sweep

PLACES = ("dataset", "grid", "data_dir", "runs_dir", "logger", "strategy", "num_workers")  # what two stages share


@dataclass(frozen=True)
class Row:
    """The finished points of one setting.

    Attributes:
        setting: values of the sweep's differing keys.
        outcomes: one a seed, fold or both; never empty.
        n_points: how many there are to be.
    """

    setting: tuple[str, ...]
    outcomes: list[Outcome]
    n_points: int

    @cached_property
    def validation(self) -> Score:
        """Mean of the score on the validation split, and 95 % t interval over seeds, from three on."""
        values = [outcome.validation for outcome in self.outcomes]
        return UNDEFINED if None in values else over_replicates([v for v in values if v is not None])

    @cached_property
    def test(self) -> Score:
        """The same on the test split; of one seed with the interval over subjects. Undefined unless all were tested."""
        scores = [outcome.test.score for outcome in self.outcomes if outcome.test]
        if len(scores) < len(self.outcomes):
            return UNDEFINED
        return scores[0] if len(scores) == 1 else over_replicates([score.value for score in scores])

    @property
    def seeds(self) -> str:
        """`5`, or `3 of 5` while some are not finished."""
        n = len(self.outcomes)
        return str(n) if n == self.n_points else f"{n} of {self.n_points}"


@dataclass(frozen=True)
class Table:
    """The rows of one task and metric, the best first; without a metric in the order of the points. Never empty."""

    sweep: Sweep
    rows: list[Row]

    @property
    def _first(self) -> Outcome:
        return self.rows[0].outcomes[0]

    @property
    def metric(self) -> str:
        """By which rows are ranked; empty where there is none."""
        return self._first.metric

    @property
    def is_pretraining(self) -> bool:
        """Else a task."""
        return str(self._first.record["stage"]) == "pretraining"

    @property
    def title(self) -> str:
        """Task and cohort in words."""
        task, target, cohort, _ = self._first.what
        of = f" of {target}" if target and task in ("classification", "regression") else ""
        simulated = " (simulated)" if self._first.record["dataset"]["simulated"] and "simulated" not in cohort else ""
        return f"{task.replace('_', ' ')}{of}, cohort {cohort}{simulated}"

    @property
    def test_label(self) -> str:
        """Of the test score; empty if no row was tested."""
        tested = (row.outcomes[0].test for row in self.rows if not math.isnan(row.test.value))
        return next((test.label for test in tested if test), "")

    @property
    def best(self) -> Row | None:
        """By validation; None where there is nothing to choose."""
        return self.rows[0] if len(self.rows) > 1 and not math.isnan(self.rows[0].validation.value) else None

    @property
    def closed(self) -> bool:
        """Whether the best, or only, row's test split stayed closed."""
        return not self.is_pretraining and any(one.record.get("test_opened") == [] for one in self.rows[0].outcomes)


def tables(sweep: Sweep) -> list[Table]:
    """One for each task, cohort and metric."""
    n_points: dict[tuple[str, ...], int] = {}
    grouped: dict[tuple[str, ...], dict[tuple[str, ...], list[Outcome]]] = {}
    for outcome in sweep.outcomes:
        setting = sweep.setting(outcome)
        n_points[setting] = n_points.get(setting, 0) + 1
        if outcome.status == "finished":
            grouped.setdefault(outcome.what, {}).setdefault(setting, []).append(outcome)
    found = []
    for (*_, metric), of_group in grouped.items():
        rows = [Row(setting, outcomes, n_points[setting]) for setting, outcomes in of_group.items()]
        sign = -1 if higher_is_better(metric) else 1
        # (A stable sort: of equals, and of those without a score, the first point's.)
        rows.sort(key=lambda row: math.inf if math.isnan(v := row.validation.value) else sign * v)
        found.append(Table(sweep, rows))
    return found


def next_commands(table: Table) -> list[tuple[str, str]]:
    """What to do with the outcome: words, and the command.

    Of a search, the command that tests its choice; of pretraining, the sweep of probes over its weights, whose table
    then chooses on validation.
    """
    if table.is_pretraining:
        outcomes = [outcome for row in table.rows for outcome in row.outcomes]
        weights = ",".join(_nearby(outcome.point.run) for outcome in outcomes if outcome.point.run)
        shared = [o for o in outcomes[0].point.overrides if o.lstrip("+").split("=")[0].split(".")[0] in PLACES]
        probes = ["+experiment=linear_probe", "task=brain_age", *shared, "open_test=false", f"weights={weights}"]
        return [("To compare the weights, by validation:", _command([*(["-m"] if "," in weights else []), *probes]))]
    if not table.closed:
        return []
    chosen = [_given(outcome) for outcome in table.rows[0].outcomes]
    values = {key: list(dict.fromkeys(given[key] for given in chosen)) for key in chosen[0]}
    again = [f"{key}={','.join(texts)}" for key, texts in values.items() if key != "open_test"]
    several = any(len(texts) > 1 for texts in values.values())
    return [("To test the best:" if table.best else "To test it:", _command([*(["-m"] if several else []), *again]))]


def _given(outcome: Outcome) -> dict[str, str]:
    """A point's overrides by key, with the `+` that puts some on the command line."""
    pairs = (override.partition("=") for override in outcome.point.overrides)
    return {key: value for key, _, value in pairs}


def shown_values(sweep: Sweep, rows: Sequence[Row]) -> list[list[str]]:
    """Of each row its settings as people read them: of paths the name, of numbers four digits."""
    return [[_short(value) for value in row.setting] for row in rows]


def _short(value: str) -> str:
    if "/" in value and not value.startswith("["):
        return Path(value).name
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def _nearby(path: Path) -> str:
    """Relative where it lies below the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "neuro_ssl.train", *arguments])


def higher_is_better(metric: str) -> bool:
    """Of a validation score or an objective of pretraining; of a loss it isn't."""
    return better(metric.rpartition("/")[2]) == "max"
