"""Run directories, read and checked.

`run.yaml` says what was done and with which configuration, `metrics.csv` (epoch, step, metric, value) how it went;
downstream runs add `results.json` and `predictions.parquet`, pretraining runs `views.npz`.
"""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from pydantic import BaseModel, ValidationError

from neuro_ssl.data.leakage import Verdict, describe
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import Kind

FILES = {
    "pretraining": ("metrics.csv", "views.npz"),
    "downstream": ("metrics.csv", "results.json", "predictions.parquet"),
}
NOT_OPENED = "test split not opened"
METRIC_COLUMNS = ["epoch", "step", "metric", "value"]
PREDICTION_COLUMNS = ["scan_id", "subject_id", "split", "target", "prediction"]
VIEW_ARRAYS = ("original", "view1")  # at least; contrastive tasks have view2 too
T = TypeVar("T")


class Dataset(BaseModel, frozen=True):
    """The data of a run. The hashes tell two selections or splits of one cohort apart."""

    cohort: str
    simulated: bool
    grid: str
    store: str
    preprocessing_hash: str
    manifest_hash: str
    split_hash: str = ""
    split: str = ""
    n_scans: dict[str, int]
    n_subjects: dict[str, int]

    @property
    def title(self) -> str:
        """Cohort and grid, whether simulated, and how it was divided otherwise than on file."""
        simulated = " (simulated)" if self.simulated and "simulated" not in self.cohort else ""
        return f"cohort {self.cohort}{simulated}, grid {self.grid}{', ' if self.split else ''}{self.split}"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What two runs must share for their scores to be comparable."""
        return self.cohort, self.grid, self.manifest_hash, self.split_hash


class Encoder(BaseModel):
    """The network's name and size."""

    name: str
    parameters_millions: float


class Weights(BaseModel):
    """The run that the encoder's initial weights come from."""

    name: str
    path: str


class RunInfo(BaseModel):
    """Content of `run.yaml`."""

    name: str
    status: Literal["finished"]
    stage: Literal["pretraining", "downstream"]
    command: str
    seed: int
    started: Any
    duration_s: float
    dataset: Dataset
    encoder: Encoder
    task: str
    weights: Weights | None
    covariates: list[str] = []  # labels that the encoder was pretrained with
    frozen: bool
    epochs: int
    epochs_trained: int | None = None  # fewer, if it was stopped early; None: of a version that didn't tell
    batch_size: int
    versions: dict[str, str]
    commit: str | None
    dirty: bool | None
    config: dict[str, Any]
    hardware: dict[str, Any]


class Interval(BaseModel):
    """A score as JSON has it; null is nan."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def score(self) -> Score:
        """The same with nan."""
        return Score(*(math.nan if x is None else x for x in (self.value, self.low, self.high)))


class Baseline(BaseModel):
    """The constant prediction that a model has to beat."""

    name: str
    prediction: float
    scores: dict[str, Interval | None]


class Leakage(BaseModel):
    """Whether the encoder was trained on validation or test subjects, and on how many."""

    verdict: Verdict
    n_subjects: dict[str, int]
    cohorts: list[str] = []  # that the weights name, where the verdict is unknown

    def __str__(self) -> str:
        return describe(self.verdict, self.n_subjects, self.cohorts)


class Results(BaseModel):
    """Content of `results.json`: scores on the test split."""

    task: str
    kind: Kind
    target: str
    unit: str | None
    positive_class: str | int | float | None
    protocol: Literal["linear_probe", "finetune", "from_scratch"]
    initialisation: Literal["pretrained", "untrained"]
    n_test_scans: int
    n_test_subjects: int
    scores: dict[str, Interval]
    baseline: Baseline
    leakage: Leakage | None = None  # None: of a version that did not look
    test_opened: list[str] = []  # when; a second time if the run was interrupted while it was tested


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
    """`predictions`: one row a scan, of the test split."""

    results: Results
    predictions: pd.DataFrame

    @property
    def model(self) -> str:
        """How the model came about, in words."""
        names = {"linear_probe": "Linear probe", "finetune": "Fine-tuned", "from_scratch": "From scratch"}
        name = names[self.results.protocol]
        return f"{name}, {self.results.initialisation}" if self.results.protocol == "linear_probe" else name


@dataclass(frozen=True)
class Unfinished:
    """A run that can't be reported yet, and why."""

    name: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Runs:
    """All runs of a report."""

    pretraining: list[PretrainingRun]
    downstream: list[DownstreamRun]
    unfinished: list[Unfinished]


def read_runs(runs_dir: Path, names: list[str] | None = None) -> Runs:
    """Read every run below `runs_dir`, or the named ones.

    Args:
        runs_dir: holds run directories, at any depth.
        names: run directories relative to `runs_dir`.

    Raises:
        InputError: there is no run, a named run does not exist, or a file is not what it should be.
    """
    if names is None:
        paths = sorted(file.parent for file in runs_dir.rglob("run.yaml"))
        if not paths:
            raise InputError(f"{runs_dir}: no runs here; train first (python -m neuro_ssl.train) or set runs_dir")
    else:
        paths = [runs_dir / name for name in names]
        for path in paths:
            if not (path / "run.yaml").is_file():
                raise InputError(f"{path}: not a run directory (no run.yaml); check runs=")
    runs = [_read_run(path) for path in paths]
    return Runs(
        [run for run in runs if isinstance(run, PretrainingRun)],
        [run for run in runs if isinstance(run, DownstreamRun)],
        [run for run in runs if isinstance(run, Unfinished)],
    )


def _read_run(path: Path) -> Run | Unfinished:
    facts = _parsed(path / "run.yaml", lambda file: yaml.safe_load(file.read_text()))
    if not isinstance(facts, dict):
        raise InputError(f"{path / 'run.yaml'}: not a mapping; delete the run and train it again")
    if facts.get("status") == "running":
        return Unfinished(str(facts.get("name", path.name)), path, "still running, or interrupted")
    info = _validated(path / "run.yaml", RunInfo, facts)
    if info.stage == "downstream" and facts.get("test_opened") == []:
        return Unfinished(info.name, path, NOT_OPENED)
    missing = [name for name in FILES[info.stage] if not (path / name).is_file()]
    if missing:
        return Unfinished(info.name, path, f"no {' or '.join(missing)}")
    metrics = _parsed(path / "metrics.csv", pd.read_csv)
    _need_columns(path / "metrics.csv", metrics, METRIC_COLUMNS)
    common = (path, info, metrics)
    if info.stage == "pretraining":
        picture = path / "reconstructions.png"
        return PretrainingRun(
            *common, _read_views(path / "views.npz"), picture.read_bytes() if picture.exists() else None
        )
    results = _parsed(path / "results.json", lambda file: Results.model_validate_json(file.read_text()))
    predictions = _parsed(path / "predictions.parquet", pd.read_parquet)
    _need_columns(path / "predictions.parquet", predictions, PREDICTION_COLUMNS)
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    if len(test) != results.n_test_scans:
        raise InputError(
            f"{path / 'predictions.parquet'}: {len(test)} test scans, but results.json counts "
            f"{results.n_test_scans}; delete the run and train it again"
        )
    return DownstreamRun(*common, results, test)


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
