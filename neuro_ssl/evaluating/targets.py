"""What is predicted: a task of `conf/task`, as the labels of a manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuro_ssl.data.dataset import code_text
from neuro_ssl.data.tabular import missing_column
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import Kind


@dataclass(frozen=True)
class Target:
    """One task.

    Attributes:
        name: such as `brain_age`; of the tasks for any column, the column.
        column: of the manifest.
        classes: for classification the two labels, the positive one second; None for regression.
        leave_out: labels that belong to neither class.
        unit: of a regression target.
        reference: the paper's figure, see `conf/task`; None if there is none.
        options: that name the task to the command `train`.
        settings: of the task in training, as in its file.
    """

    name: str
    column: str
    classes: tuple[str, str] | None
    leave_out: tuple[str, ...]
    unit: str | None
    reference: Mapping[str, Any] | None
    options: tuple[str, ...]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, node: Mapping[str, Any], options: Sequence[str]) -> "Target":
        """The task that a node of `conf/task` describes.

        Args:
            name: of the file.
            node: its content.
            options: that gave it.

        Raises:
            InputError: it predicts nothing, or several columns at once.
        """
        column = node.get("target")
        if not isinstance(column, str):
            raise InputError(
                f"tasks: {name} has no single target; name tasks such as brain_age, sex, alzheimers, stroke_severity, "
                "or for any column 'regression task.target=COLUMN'"
            )
        classes = node.get("classes")
        return cls(
            column if name in ("classification", "regression") else name,
            column,
            (str(classes[0]), str(classes[1])) if classes else None,
            tuple(node.get("leave_out") or ()),
            node.get("unit"),
            node.get("reference"),
            tuple(options),
            {key: value for key, value in node.items() if key != "_target_"},
        )

    @property
    def kind(self) -> Kind:
        """Classification or regression."""
        return "classification" if self.classes else "regression"

    @property
    def is_age(self) -> bool:
        """Whether it is age, whose gap between prediction and truth is a marker of its own."""
        return self.column == "age_years"

    def values(self, scans: pd.DataFrame, source: str) -> pd.Series:
        """The target of each scan, 0 or 1 for classes; nan where it has none.

        Args:
            scans: rows of a manifest.
            source: of them, for messages.

        Raises:
            InputError: no such column, or something in it that is no label of this task.
        """
        if self.column not in scans:
            raise missing_column(self.column, scans.columns, f"task {self.name}: {source}")
        label = scans[self.column]
        if self.classes is None:
            if not pd.api.types.is_numeric_dtype(label):
                raise InputError(
                    f"{source}: column {self.column!r} holds words such as {label.dropna().iloc[0]!r}; the task "
                    f"{self.name} needs numbers"
                )
            return label.astype(float)
        text = label.map(code_text, na_action="ignore")
        text = text.where(~text.isin(self.leave_out))
        if unknown := sorted(set(text.dropna()) - set(self.classes)):
            raise InputError(
                f"{source}: column {self.column!r} holds {', '.join(unknown)}, which the task {self.name} knows "
                f"neither as a class ({', '.join(self.classes)}) nor in leave_out"
            )
        return text.map({self.classes[0]: 0.0, self.classes[1]: 1.0}).astype(float).where(text.notna(), np.nan)
