"""Run directories, read and checked.

`run.yaml` says what was done and with which configuration, `metrics.csv` (epoch, step, metric, value) how it went;
downstream runs add `results.json` and `predictions.parquet`, pretraining runs `views.npz`.
"""

import json
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from pydantic import ValidationError

from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.training import is_of_evaluation
from neuro_ssl.reporting.runs.records import Results, RunInfo
from neuro_ssl.reporting.sources import find

FILES = {
    "pretraining": ("metrics.csv", "views.npz"),
    "downstream": ("metrics.csv", "results.json", "predictions.parquet"),
}
UNFINISHED = {"running": "still running, or interrupted", "pruned": "pruned by a search"}
NOT_OPENED = "the test split stayed closed"
METRIC_COLUMNS = ["epoch", "step", "metric", "value"]
PREDICTION_COLUMNS = ["scan_id", "subject_id", "split", "target", "prediction"]
VIEW_ARRAYS = ("original", "view1")  # at least; contrastive tasks have view2 too
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What every finished run has: its directory, facts and tidy metrics."""

    path: Path
    info: RunInfo
    metrics: pd.DataFrame


@dataclass(frozen=True)
class PretrainingRun(Run):
    """`views`: `original`, `view1` and, of contrastive tasks, `view2`, each (scans, z, y, x).

    `reconstructions`: the PNG file that masked autoencoders draw, or None.
    """

    views: dict[str, npt.NDArray[np.float32]]
    reconstructions: bytes | None


@dataclass(frozen=True)
class DownstreamRun(Run):
    """What a run says of one target, its history and its predictions (one row a scan, of the test split) among it."""

    results: Results
    predictions: pd.DataFrame

    @property
    def model(self) -> str:
        """How the model came about, in words."""
        names = {"linear_probe": "Linear probe", "finetune": "Fine-tuned", "from_scratch": "From scratch"}
        name = names[self.results.protocol]
        name = f"{name}, {self.results.initialisation}" if self.results.protocol == "linear_probe" else name
        return f"{name}, multi-task" if self.results.multitask else name


@dataclass(frozen=True)
class Unfinished:
    """A run that can't be reported yet, and why."""

    name: str
    path: Path
    reason: str
    command: str = ""  # if it is known


@dataclass(frozen=True)
class Runs:
    """All runs of a report; a run of several targets is in `downstream` once for each."""

    pretraining: list[PretrainingRun]
    downstream: list[DownstreamRun]
    unfinished: list[Unfinished]

    @property
    def finished(self) -> list[Run]:
        """Each finished run once, those of pretraining first."""
        runs: list[Run] = [*self.pretraining, *self.downstream]
        return list({run.path: run for run in runs}.values())


def read_runs(runs_dir: Path, names: list[str] | None = None) -> Runs:
    """Read every run below `runs_dir`, or the named ones, see `sources.find`.

    Raises:
        InputError: there is no run, a named one does not exist, or a file is not what it should be.
    """
    return read_directories(find(runs_dir, names).runs)


def read_directories(paths: Sequence[Path]) -> Runs:
    """Read the runs in these directories.

    Raises:
        InputError: a file is not what it should be.
    """
    runs = [run for path in paths for run in _read_run(path)]
    return Runs(
        [run for run in runs if isinstance(run, PretrainingRun)],
        [run for run in runs if isinstance(run, DownstreamRun)],
        [run for run in runs if isinstance(run, Unfinished)],
    )


def apart_from_evaluations(runs: Runs, named: Collection[Path]) -> tuple[Runs, list[str]]:
    """The runs without the trainings of evaluations, which are shown with them; and the names of those.

    Args:
        runs: all runs.
        named: directories of runs that stay in any case.
    """

    def stays(run: Run | Unfinished) -> bool:
        command = run.command if isinstance(run, Unfinished) else run.info.command
        return run.path in named or not is_of_evaluation(command)

    kept = Runs(
        runs.pretraining, [run for run in runs.downstream if stays(run)], [run for run in runs.unfinished if stays(run)]
    )
    left = [run.path.name for run in runs.downstream if not stays(run)]
    left += [run.path.name for run in runs.unfinished if not stays(run)]
    return kept, list(dict.fromkeys(left))


def _read_run(path: Path) -> Sequence[Run | Unfinished]:
    """What a directory holds: one entry, or of a run of several targets one for each."""
    facts = _parsed(path / "run.yaml", lambda file: yaml.safe_load(file.read_text()))
    if not isinstance(facts, dict):
        raise InputError(f"{path / 'run.yaml'}: not a mapping; delete the run and train it again")
    if (facts.get("config") or {}).get("rerun_of"):  # neither another seed nor a second look at the test split
        return []
    if why := UNFINISHED.get(str(facts.get("status"))):
        return [Unfinished(str(facts.get("name", path.name)), path, why)]
    info = _validated(path / "run.yaml", RunInfo, facts)
    if info.stage == "downstream" and facts.get("test_opened") == []:
        return [Unfinished(info.name, path, NOT_OPENED, info.command)]
    missing = [name for name in FILES[info.stage] if not (path / name).is_file()]
    if missing:
        return [Unfinished(info.name, path, f"no {' or '.join(missing)}")]
    metrics = _parsed(path / "metrics.csv", pd.read_csv)
    _need_columns(path / "metrics.csv", metrics, METRIC_COLUMNS)
    if info.stage == "pretraining":
        views, picture = _read_views(path / "views.npz"), path / "reconstructions.png"
        return [PretrainingRun(path, info, metrics, views, picture.read_bytes() if picture.exists() else None)]
    predictions = _parsed(path / "predictions.parquet", pd.read_parquet)
    _need_columns(path / "predictions.parquet", predictions, PREDICTION_COLUMNS)
    test = predictions[predictions["split"] == "test"]
    runs = []
    for results in _parsed(path / "results.json", _results):
        of_target = test
        if results.multitask:
            _need_columns(path / "predictions.parquet", predictions, ["task"])
            of_target = test[test["task"] == results.task]
        if len(of_target) != results.n_test_scans:
            raise InputError(
                f"{path / 'predictions.parquet'}: {len(of_target)} test scans of {results.task}, but results.json "
                f"counts {results.n_test_scans}; delete the run and train it again"
            )
        curves = _metrics_of(metrics, results.task) if results.multitask else metrics
        runs.append(DownstreamRun(path, info, curves, results, of_target.reset_index(drop=True)))
    return runs


def _results(file: Path) -> list[Results]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "targets" not in content:
        return [Results.model_validate(content)]
    common = {key: value for key, value in content.items() if key != "targets"}
    return [Results.model_validate({**common, **part, "multitask": True}) for part in content["targets"].values()]


def _metrics_of(metrics: pd.DataFrame, target: str) -> pd.DataFrame:
    """One target's history: `val/sex/auroc` as `val/auroc`; without the loss, which is of all targets together."""
    own = metrics[metrics["metric"].str.count("/").eq(2) & metrics["metric"].str.contains(f"/{target}/", regex=False)]
    return own.assign(metric=own["metric"].str.replace(f"/{target}/", "/", regex=False))


def _read_views(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    views = _parsed(file, lambda f: dict(np.load(f)))
    if missing := [name for name in VIEW_ARRAYS if name not in views]:
        raise InputError(f"{file}: lacks the arrays {', '.join(missing)}; delete the run and train it again")
    if len(shapes := {array.shape for array in views.values()}) > 1 or views["original"].ndim != 4:
        raise InputError(
            f"{file}: the arrays must share one shape (scans, z, y, x), got {sorted(shapes)}; delete the run and "
            "train it again"
        )
    return views


def _parsed(file: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(file)
    except ValidationError as error:
        raise InputError(_explained(file, error)) from error
    except (OSError, ValueError, yaml.YAMLError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: unreadable ({error}); delete the run and train it again") from error


def _validated(file: Path, model: type[RunInfo], facts: dict[str, Any]) -> RunInfo:
    try:
        return model.model_validate(facts)
    except ValidationError as error:
        raise InputError(_explained(file, error)) from error


def _explained(file: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return f"{file}: {key + ': ' if key else ''}{first['msg']}; delete the run and train it again"


def _need_columns(file: Path, table: pd.DataFrame, columns: list[str]) -> None:
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{file}: lacks the columns {', '.join(missing)}; delete the run and train it again")
