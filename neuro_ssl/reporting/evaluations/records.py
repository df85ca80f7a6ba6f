"""What `evaluation.yaml` of an evaluation holds."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from neuro_ssl.data.targets import Target
from neuro_ssl.reporting.runs.records import Dataset, Leakage


class EvaluatedModel(BaseModel):
    """One of the models that were compared."""

    name: str
    role: Literal["constant", "image_statistics", "untrained", "from_scratch", "pretrained"]
    weights: list[str]
    grid: str
    leakage: dict[str, Leakage]
    learnt_from: list[str] = []  # labels that its encoder saw; empty too in records of a version that didn't tell

    def seen(self, test_set: str) -> str:
        """`disjoint`, `overlapping` or `unknown`, and the labels that it has learnt from; nothing if not pretrained."""
        if self.role != "pretrained" or test_set not in self.leakage:
            return ""
        learnt = f", learnt from {', '.join(self.learnt_from)}" if self.learnt_from else ""
        return self.leakage[test_set].verdict + learnt


class EvaluationInfo(BaseModel):
    """Content of `evaluation.yaml`."""

    command: str
    finished: datetime
    duration_s: float
    models: list[EvaluatedModel]
    data: dict[str, Dataset]  # the cohort that models are fitted to first
    left_out: dict[str, list[str]]
    targets: list[Target] = []  # none in records of a version that didn't tell
    versions: dict[str, str]
    commit: str | None
    dirty: bool | None
    hardware: dict[str, Any]
    config: dict[str, Any]
