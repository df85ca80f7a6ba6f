"""What became of a sweep's points: the records in its folder (`neuro_ssl.points`) and in the runs' directories."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY
from neuro_ssl.points import Point, read_points
from neuro_ssl.reporting.runs.differences import MISSING, differences
from neuro_ssl.reporting.runs.records import Interval
from neuro_ssl.run import RunDirectory
from neuro_ssl.run_names import ELSEWHERE

PRETRAINED = "weights: "
# Settings that are folded; the last is of the pretraining whose weights a point starts from.
REPLICATES = ("seed", "label_seed", "split.fold", "split.repeat", f"{PRETRAINED}seed")
MOST_TOLD = 3  # settings by which weights are told apart; of more, such as other encoders have, by their names
Status = Literal["finished", "failed", "pruned", "not finished"]


@dataclass(frozen=True)
class Test:
    """A run's score on the test split, by the metric that tasks of its kind are compared by."""

    label: str
    score: Score


@dataclass(frozen=True)
class Outcome:
    """A point and what is known of its run.

    Attributes:
        point: as the sweep recorded it.
        settings: its overrides by key, without what puts them on the command line: `+`, `++`, `~`. In place of
            `weights`, where all are runs, the settings in which these differ, such as `weights: task.temperature`.
        status: a run that came to its end later, by another sweep or by itself, is finished.
        record: what `run.yaml` holds; empty if there is none.
        test: None unless it was opened for one target.
    """

    point: Point
    settings: dict[str, str]
    status: Status
    record: Mapping[str, Any]
    test: Test | None

    @property
    def run(self) -> str:
        """Name of its run; empty if the point failed before it had one."""
        return self.point.run.name if self.point.run else ""

    @property
    def metric(self) -> str:
        """The validation score that chose the epoch, or the objective of pretraining; empty without one."""
        return str(self.record.get("validation", {}).get("metric", ""))

    @property
    def validation(self) -> float | None:
        """Its value."""
        value: float | None = self.record.get("validation", {}).get("value")
        return value

    @property
    def what(self) -> tuple[str, str, str, str]:
        """What outcomes must share for their scores to be comparable: task, target, cohort, metric."""
        config = self.record.get("config", {})
        target = config.get("task", {}).get("target") if isinstance(config.get("task"), dict) else None
        return str(self.record["task"]), str(target or ""), str(self.record["dataset"]["cohort"]), self.metric

    @property
    def reason(self) -> str:
        """Of a failure, in one line."""
        return " ".join((self.point.reason or "").split())

    @property
    def shared_reason(self) -> str:
        """The same for pages that are passed on: without paths, and up to where it may name scans or subjects."""
        up_to_ids = re.sub(r"(\b(?:scan|subject)s?\b).*", r"\1 …", self.reason)
        return re.sub(r"\S*/\S*", "…", up_to_ids)


@dataclass(frozen=True)
class Sweep:
    """A sweep; of points of the same settings the last.

    Attributes:
        folder: of its records.
        outcomes: in the order of the points.
    """

    folder: Path
    outcomes: list[Outcome]

    @cached_property
    def differing(self) -> list[str]:
        """The keys in which points differ, apart from `REPLICATES`."""
        keys = dict.fromkeys(key for outcome in self.outcomes for key in outcome.settings)
        values = {key: {outcome.settings.get(key) for outcome in self.outcomes} for key in keys}
        return [key for key, found in values.items() if len(found) > 1 and key not in REPLICATES]

    @property
    def replicated(self) -> list[str]:
        """Those of `REPLICATES` in which points differ."""
        return [key for key in REPLICATES if len({outcome.settings.get(key) for outcome in self.outcomes}) > 1]

    def setting(self, outcome: Outcome) -> tuple[str, ...]:
        """The values of the differing keys."""
        return tuple(outcome.settings.get(key, MISSING) for key in self.differing)

    @property
    def command(self) -> list[str]:
        """What was given on the command line, by Hydra's record of it; empty without that."""
        file = self.folder / "multirun.yaml"
        record = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
        return list(record["hydra"]["overrides"]["task"]) if record else []


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep.

    Raises:
        InputError: a file is damaged.
    """
    outcomes = (_outcome(point) for point in read_points(folder))
    last = {tuple(sorted(one.settings.items())): one for one in outcomes}
    return Sweep(folder, _told_apart(list(last.values())))


def all_sweeps(folders: Sequence[Path]) -> list[Sweep]:
    """Those worth showing where none is named: with points to compare, or missing; of one command the latest."""
    latest: dict[str, Sweep] = {}
    for folder in sorted(folders):
        sweep = read_sweep(folder)
        finished = [outcome.what for outcome in sweep.outcomes if outcome.status == "finished"]
        missing = len(finished) < len(sweep.outcomes) and any(outcome.run for outcome in sweep.outcomes)
        if len(sweep.outcomes) > 1 and (missing or len(set(finished)) < len(finished)):
            key = str(sweep.command or folder)
            latest.pop(key, None)
            latest[key] = sweep
    return list(latest.values())


def _told_apart(outcomes: list[Outcome]) -> list[Outcome]:
    """With weights as `settings` has them, unless that doesn't tell one from another, or is too much to tell."""
    paths = list(dict.fromkeys(one.settings["weights"] for one in outcomes if "weights" in one.settings))
    records = [RunDirectory(Path(path)).record for path in paths]
    differing = differences([record.get("config", {}) for record in records])
    told = {key: texts for key, texts in differing.items() if key.split(".")[0] not in ELSEWHERE}
    apart = [{f"{PRETRAINED}{key}": texts[i] for key, texts in told.items()} for i in range(len(paths))]
    if not all(records) or len({*told, "seed"}) > MOST_TOLD + 1 or any(apart.count(one) > 1 for one in apart):
        return outcomes
    of_path = dict(zip(paths, apart, strict=True))
    for one in outcomes:
        one.settings.update(of_path.get(one.settings.pop("weights", ""), {}))
    return outcomes


def _outcome(point: Point) -> Outcome:
    settings = {}
    for override in point.overrides:
        key, _, value = override.lstrip("+~").partition("=")
        settings[key] = value
    record = RunDirectory(point.run).record if point.run else {}
    status: Status = "not finished" if point.status == "running" else point.status
    if record.get("status") == "finished":
        status = "finished"
    elif status == "finished":
        status = "not finished"  # its run is gone, or was begun anew
    return Outcome(point, settings, status, record, _test(point.run) if record else None)


def _test(run: Path | None) -> Test | None:
    if run is None or not (file := run / "results.json").exists():
        return None
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        if "targets" in results:
            return None
        name = PRIMARY[results["kind"]]
        metric = METRICS[results["kind"]][name]
        unit = f" ({results['unit']})" if metric.in_target_unit and results["unit"] else ""
        return Test(f"{metric.label}{unit}", Interval.model_validate(results["scores"][name]).score)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error}); delete {run} to run it again") from error
