"""The tasks of an evaluation, as the files of `conf/task` describe them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuro_ssl.data.targets import Target, read_targets
from neuro_ssl.errors import InputError

ANY_COLUMN = ("classification", "regression")


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
        target: the label.
        options: that name the task to the command `train`.
        settings: of a linear probe of this label alone, see `Supervised`.
        place: of the label among those that these options name.
    """

    target: Target
    options: tuple[str, ...]
    settings: Mapping[str, Any]
    place: int = 0


def read_tasks(name: str, node: Mapping[str, Any], options: Sequence[str]) -> list[Task]:
    """The tasks of one file: one, or of a task of several targets one for each.

    Args:
        name: of the file; the tasks for any column are called by the column.
        node: its content.
        options: that gave it.

    Raises:
        InputError: it has no labels, or `data.targets` cannot read them.
    """
    if not {"target", "targets"} & set(node):
        raise InputError(
            f"tasks: {name} learns without labels; name tasks such as brain_age, sex, alzheimers, stroke_severity, or "
            "for any column 'regression task.target=COLUMN'"
        )
    called = str(node["target"]) if name in ANY_COLUMN else name
    scale = {key: node[key] for key in ("standardise_target", "standardise_features")}
    return [
        Task(
            target,
            tuple(options),
            {
                "target": target.target,
                "classes": list(target.classes) if target.classes else None,
                "leave_out": list(target.leave_out),
                **scale,
            },
            place,
        )
        for place, target in enumerate(read_targets(called, node))
    ]
