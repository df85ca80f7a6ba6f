"""What `run.yaml` and `results.json` of a run hold."""

import math
from typing import Any, Literal

from pydantic import BaseModel

from neuro_ssl.data.leakage import Verdict, describe
from neuro_ssl.data.targets import Reference
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import Kind


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
    n_excluded: int | None = None  # by exclude.csv; None in records of a version that didn't tell, as the three below
    preprocessing: dict[str, Any] = {}
    cohorts: dict[str, str] = {}  # of several together, by name
    demographics: dict[str, Any] = {}  # by split, see `data.demographics`

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
    citation: str | None = None  # of others' weights, as the next
    intensity: str | None = None


class Validation(BaseModel):
    """The validation score that chose a downstream run's epoch."""

    metric: str
    value: float | None


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
    validation: Validation | None = None


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
    """Content of `results.json`, or its part of one target: scores on the test split."""

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
    reference: Reference | None = None
    multitask: bool = False  # one of several targets that the run learnt at once
