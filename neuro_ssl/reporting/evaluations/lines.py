"""The lines of an evaluation's tables, a model under a protocol each: how figures draw and name them, and which of them
stand for all where a figure has room for few.

A role has its colour, and each pretrained encoder one of its own; protocols differ by marker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.evaluations.reading import Evaluation, Tested
from neuro_ssl.reporting.evaluations.verdicts import protocol_in_words
from neuro_ssl.reporting.panel import GREY, file_name

ROLE_COLOURS = {"constant": GREY, "image_statistics": "#000000", "untrained": "#E69F00", "from_scratch": "#D55E00"}
PRETRAINED_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9")
LINES = ("-", "--", ":", "-.")
MARKERS = {
    "ridge_probe": "o",
    "logistic_probe": "o",
    "knn_probe": "s",
    "linear_probe": "D",
    "finetune": "^",
    "from_scratch": "v",
}
TRAINED = ("finetune", "from_scratch")
SHOWN = (
    "Shown here: of frozen pretrained features, of fine-tuned encoders, of networks from scratch, and of brain volume "
    "and intensities, the one that scores best in this table, and beside the first the same encoder before training. "
    "Being picked by these scores, each looks a little better than it is; the tables have all."
)


@dataclass(frozen=True)
class Line:
    """A model under a protocol.

    Attributes:
        model: its name in the tables.
        protocol: likewise.
        role: of the model.
        label: model and protocol, as figures have it.
    """

    model: str
    protocol: str
    role: str
    label: str

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """Its rows."""
        return table[table["model"].eq(self.model) & table["protocol"].eq(self.protocol)]


def colour_of(evaluation: Evaluation, model: str) -> tuple[str, str]:
    """Colour and line style of a model, on every figure of an evaluation."""
    role = next(one.role for one in evaluation.info.models if one.name == model)
    place = [one.name for one in evaluation.info.models if one.role == role].index(model)
    if role != "pretrained":
        return ROLE_COLOURS[role], LINES[place % len(LINES)]
    return PRETRAINED_COLOURS[place % len(PRETRAINED_COLOURS)], LINES[place // len(PRETRAINED_COLOURS) % len(LINES)]


def telling(tested: Tested) -> list[Line]:
    """The lines that figures of single models show, see `SHOWN`."""
    table = tested.table("scores").query("metric == @tested.primary").dropna(subset=["value"])
    table = table.sort_values("value", ascending=not tested.metric.higher_is_better, kind="stable")
    pretrained, trained = table["role"].eq("pretrained"), table["protocol"].isin(TRAINED)
    frozen = table[pretrained & ~trained].head(1)
    best = [
        frozen,
        table[pretrained & trained].head(1),
        _before_training(tested, table[table["role"] == "untrained"], frozen).head(1),
        table[table["role"] == "from_scratch"].head(1),
        table[table["role"] == "image_statistics"].head(1),
    ]
    lines = []
    for row in pd.concat(best).to_dict("records"):
        name, words = tested.evaluation.names[row["model"]], protocol_in_words(row["protocol"])
        label = name if row["role"] == "from_scratch" else f"{name}, {words}"
        lines.append(Line(row["model"], row["protocol"], row["role"], label))
    return lines


def _before_training(tested: Tested, untrained: pd.DataFrame, frozen: pd.DataFrame) -> pd.DataFrame:
    """Of untrained encoders the one that a line of a pretrained one is compared with; all, if it is with none."""
    pairs = tested.table("comparisons")
    if frozen.empty or pairs.empty:
        return untrained
    model, protocol = frozen.iloc[0][["model", "protocol"]]
    rivals = pairs.loc[pairs["model"].eq(model) & pairs["protocol"].eq(protocol), "against"]
    twin = untrained[untrained["model"].isin(rivals) & untrained["protocol"].eq(protocol)]
    return untrained if twin.empty else twin


def protocols_in(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Entries of a legend."""
    present = set(table["protocol"])
    return {protocol_in_words(name): (marker, GREY) for name, marker in MARKERS.items() if name in present}


def subgroup_in_words(subgroup: object, level: object) -> str:
    """`age band 40–59`; `site-1` where the level says it."""
    name = str(subgroup).replace("_", " ")
    return str(level) if str(level).lower().startswith(name) else f"{name} {level}"


def score_of(row: Mapping[Any, Any]) -> Score:
    """The score that a row of most tables holds."""
    return Score(row["value"], row["low"], row["high"])


def title_of(tested: Tested) -> str:
    """Task and test set in words."""
    return f"{tested.title}, {tested.where}"


def name_of(tested: Tested, *what: str) -> str:
    """Of a figure."""
    return file_name(tested.task, tested.evaluation.cohort.cohort, tested.test_set, *what)
