"""What a supervised task learns of a scan: one column of the manifest, or several."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, ValidationError, field_validator

from neuro_ssl.data.dataset import code_text
from neuro_ssl.errors import InputError

ACRONYMS = {"nihss", "mmse", "moca", "adas", "cdr", "bmi", "iq"}  # scales that the field writes in capitals


class Reference(BaseModel, frozen=True, extra="forbid"):
    """What the paper (see README) reports for a task, on its own test scans of one cohort.

    Attributes:
        cohort: that it evaluates the task on, by its name in `conf/dataset`.
        metric: a key of `evaluation.metrics.METRICS`.
        fine_tuned: the fine-tuned SimCLR encoder's score.
        from_scratch: that of a supervised network without pretraining, where the paper gives it.
    """

    cohort: str
    metric: str
    fine_tuned: float
    from_scratch: float | None = None


class Target(BaseModel, frozen=True, extra="forbid"):
    """One thing to learn.

    Attributes:
        name: of the task, by which reports know it.
        target: manifest column.
        classes: for classification the two labels, the positive one second; None for regression.
        leave_out: labels that count as missing, since they belong to neither class.
        unit: of a regression target, for tables and axes.
        weight: of this target's loss among those of several.
        reference: the paper's score.
    """

    name: str
    target: str
    classes: tuple[str, str] | None = None
    leave_out: tuple[str, ...] = ()
    unit: str | None = None
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    reference: Reference | None = None

    @field_validator("classes", "leave_out", mode="before")
    @classmethod
    def _as_text(cls, labels: Any) -> Any:
        """Labels as `code_text` compares them, so that 0 and "0" are the same."""
        return tuple(map(code_text, labels)) if isinstance(labels, list | tuple) else labels

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """What `evaluation.metrics` calls it."""
        return "classification" if self.classes else "regression"

    @property
    def quantity(self) -> str:
        """The column in words, without its unit: `age` of `age_years`, `NIHSS`."""
        words = self.target.removesuffix(f"_{self.unit}").split("_")
        return " ".join(word.upper() if word.lower() in ACRONYMS else word for word in words)


def score_of(targets: Sequence[Target]) -> tuple[str, Literal["min", "max"]]:
    """The validation score that chooses a run's epoch, and what a search goes by: its name, and which is better.

    Of one target the paper's: a classification's AUROC, a regression's loss. Of several their loss, in which
    standardised errors and cross-entropies are about 1 and 0.7 for a model that ignores the image.
    """
    return ("val/auroc", "max") if len(targets) == 1 and targets[0].classes else ("val/loss", "min")


def read_target(name: str, settings: Mapping[str, Any], key: str = "task") -> Target:
    """One target as configured.

    Args:
        name: of the task.
        settings: what `Target` takes; what is None has no influence.
        key: where they are in the configuration, for messages.

    Raises:
        InputError: naming the key.
    """
    classes = settings.get("classes")
    if classes is not None and (not isinstance(classes, list | tuple) or len(set(map(code_text, classes))) != 2):
        raise InputError(f"{key}.classes must name two labels, the positive one second; got {classes}")
    try:
        return Target(name=name, **{k: value for k, value in settings.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(k for k in Target.model_fields if k != "name")
        if first["type"] == "extra_forbidden":
            raise InputError(f"{key}.{where} is not known; it takes {known}") from error
        if first["type"] == "missing":
            raise InputError(f"{key}.{where} is missing; give it a value") from error
        raise InputError(f"{key}.{where}: {first['msg']}, got {first['input']!r}") from error


def read_targets(name: str, task: Mapping[str, Any]) -> list[Target]:
    """The targets of a task's configuration: its `targets` by name, or itself.

    Args:
        name: of the task, for the one target that it is itself.
        task: the node.

    Raises:
        InputError: naming the key; or there is none.
    """
    if "targets" not in task:
        keys = [key for key in ("target", "classes", "leave_out", "unit", "reference") if key in task]
        return [read_target(name, {key: task[key] for key in keys})]
    targets = task["targets"]
    if not targets:
        raise InputError("task.targets: name at least one target, such as sex: {target: sex, classes: [F, M]}")
    if wrong := [name for name in targets if not re.fullmatch(r"[\w-]+", name)]:
        raise InputError(f"task.targets: {wrong[0]!r} names metrics and rows; use letters, digits, '_' and '-'")
    return [read_target(name, settings, f"task.targets.{name}") for name, settings in targets.items()]


def read_labels(scans: pd.DataFrame, target: Target, source: object, key: str = "task") -> "pd.Series[float]":
    """The label of each scan: the value, or 1.0 for the second class and 0.0; nan where it has none.

    Args:
        scans: rows of a manifest.
        target: what to learn.
        source: of the rows, for messages.
        key: where the target is configured, for messages.

    Raises:
        InputError: no such column, words where numbers are needed, or a label that is neither class.
    """
    column = target.target
    if column not in scans:
        raise InputError(f"{source}: no column {column!r} to learn; there are {', '.join(map(str, scans))}")
    values = scans[column]
    values = values.where(~values.map(code_text).isin(target.leave_out))
    known = values.dropna()
    if target.classes is None:
        if not pd.api.types.is_numeric_dtype(known) and len(known):
            raise InputError(
                f"{source}: column {column!r} holds words such as {known.iloc[0]!r}; a regression needs "
                f"numbers, and a classification {key}.classes"
            )
        return values.astype(float)
    words = known.map(code_text)
    if unknown := sorted(set(words) - set(target.classes)):
        raise InputError(
            f"{source}: column {column!r} holds {', '.join(unknown)}, not in {key}.classes={list(target.classes)}; "
            f"leave them out with {key}.leave_out=[…], or map them with dataset.values when preprocessing"
        )
    return (words == target.classes[1]).astype(float).reindex(scans.index)


def fraction_label(targets: Sequence[Target], label_fraction: float) -> tuple[str, tuple[str, ...]]:
    """Column, and labels that don't count, of which `label_fraction` takes a share.

    Raises:
        InputError: a fraction of several targets, each with scans of its own.
    """
    if len(targets) > 1 and label_fraction != 1:
        raise InputError(
            f"label_fraction={label_fraction:g} is stratified by one target, and this task has "
            f"{', '.join(target.name for target in targets)}: leave it at 1, or learn one at a time"
        )
    return targets[0].target, targets[0].leave_out
