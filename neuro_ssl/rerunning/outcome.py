"""What came of a run and of its repetition: history, weights, predictions, scores; the same, or where not.

Numbers are compared as they are on file, without a tolerance: how large a difference is, is told. Times, throughput and
memory are no part of it.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuro_ssl.errors import InputError

RUNNING = re.compile(r"train_\w+[.](mean_value|weight)$")  # in a checkpoint: means over the epoch, which no model takes
TIMINGS = re.compile(r"throughput/|representation/(seconds|share_of_time)$")
CHECKPOINTS = {"best.ckpt": "best weights", "last.ckpt": "last weights"}  # downstream runs are tested with the best
SCORES = {"results.json": "test scores", "validation.json": "validation scores"}


@dataclass(frozen=True)
class Finding:
    """What became of one thing.

    Attributes:
        what: its name.
        same: None where it is missing on either side.
        told: in words, where and by how much it differs.
    """

    what: str
    same: bool | None
    told: str


def outcome(original: Path, rerun: Path) -> list[Finding]:
    """Compare two run directories.

    Raises:
        InputError: a file is damaged, or there is nothing that both have.
    """
    readers: dict[str, tuple[str, Any]] = {"history": ("metrics.csv", _history)}
    readers |= {what: (f"checkpoints/{name}", _weights) for name, what in CHECKPOINTS.items()}
    readers["predictions"] = ("predictions.parquet", _predictions)
    readers |= {what: (name, _scores) for name, what in SCORES.items()}
    found = []
    for what, (name, compared) in readers.items():
        there = [(run / name).is_file() for run in (original, rerun)]
        if all(there):
            try:
                found.append(Finding(what, *compared(original / name, rerun / name)))
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                raise InputError(f"{name} of {original} or {rerun} cannot be read ({error})") from error
        elif any(there):
            found.append(Finding(what, None, f"{original if there[1] else rerun} has none"))
    if not any(finding.same is not None for finding in found):
        raise InputError(f"{original} and {rerun} have nothing in common to compare")
    return found


def _history(original: Path, rerun: Path) -> tuple[bool, str]:
    tables = []
    for file in (original, rerun):
        table = pd.read_csv(file)[["step", "metric", "value"]]
        table = table[~table["metric"].str.match(TIMINGS)]
        tables.append(table.assign(number=table.groupby(["step", "metric"]).cumcount()))
    names = [set(table["metric"]) for table in tables]
    of_one = sorted(names[0] ^ names[1])  # measured by the version of one alone
    elsewhere = f"; on one side alone: {_named(of_one)}" if of_one else ""
    tables = [table[~table["metric"].isin(of_one)] for table in tables]
    both = tables[0].merge(tables[1], how="outer", on=["step", "metric", "number"], indicator=True)
    alone = both[both["_merge"] != "both"]
    values = both[both["_merge"] == "both"]
    differs = (values["value_x"] != values["value_y"]) & ~(values["value_x"].isna() & values["value_y"].isna())
    if not differs.any() and alone.empty:
        n_steps = values["step"].nunique()
        return True, f"{len(values)} values at {n_steps} recorded step{'s' * (n_steps != 1)}{elsewhere}"
    told = []
    if differs.any():
        different = values[differs].assign(size=_relative(values[differs]))
        different["is_loss"] = different["metric"].str.endswith("loss")  # which leads to the cause sooner than scores
        first = different.sort_values(["step", "is_loss"], ascending=[True, False], kind="stable").iloc[0]
        most = different.sort_values("size", kind="stable").iloc[-1]
        by = f"by {_percent(most['size'])}" if math.isfinite(most["size"]) else _change(most)
        told.append(
            f"from recorded step {first['step']} on: {first['metric']} {_change(first)}; "
            f"{len(different)} of {len(values)} values, {most['metric']} most, {by} at step {most['step']}"
        )
    if not alone.empty:
        n, which = len(alone), _named(list(alone["metric"].unique()))
        are = "value is" if n == 1 else "values are"
        told.append(f"{n} {are} on one side alone, from step {alone['step'].min()} on: {which}")
    return False, "; ".join(told) + elsewhere


def _weights(original: Path, rerun: Path) -> tuple[bool, str]:
    one, other = (
        {name: tensor for name, tensor in state["state_dict"].items() if not RUNNING.match(name)}
        for state in (torch.load(file, map_location="cpu", weights_only=True) for file in (original, rerun))
    )
    unlike = [name for name in {**one, **other} if _form(one.get(name)) != _form(other.get(name))]
    if unlike:
        return False, f"{len(unlike)} of {len({**one, **other})} tensors are of another form: {unlike[0]}"
    different = {name: _largest(one[name], other[name]) for name in one if not _bits_equal(one[name], other[name])}
    if not different:
        return True, f"{len(one)} tensors, {sum(tensor.numel() for tensor in one.values())} numbers, bit for bit"
    # (Counters of batches are no weights: they are named where nothing else differs.)
    worst = max(different, key=lambda name: (one[name].is_floating_point(), different[name]))
    return False, f"in {len(different)} of {len(one)} tensors, at most by {different[worst]:.2g} ({worst})"


def _predictions(original: Path, rerun: Path) -> tuple[bool, str]:
    one, other = (pd.read_parquet(file) for file in (original, rerun))
    keys = [name for name in ("scan_id", "split", "task") if name in one and name in other]
    both = one.merge(other, how="outer", on=keys, indicator=True)
    alone, pairs = both[both["_merge"] != "both"], both[both["_merge"] == "both"]
    if len(alone):
        return False, f"{len(alone)} predictions are on one side alone, {len(pairs)} on both"
    if not _equal(pairs["target_x"], pairs["target_y"]).all():
        return False, f"{int((~_equal(pairs['target_x'], pairs['target_y'])).sum())} of {len(pairs)} labels differ"
    differs = ~_equal(pairs["prediction_x"], pairs["prediction_y"])
    if not differs.any():
        return True, f"{len(pairs)} predictions"
    largest = (pairs["prediction_x"] - pairs["prediction_y"]).abs().max()
    told = f"{int(differs.sum())} of {len(pairs)} differ, at most by {largest:.2g}"
    if "decision_x" in pairs and (decided := int((~_equal(pairs["decision_x"], pairs["decision_y"])).sum())):
        told += f"; {decided} decisions are others"
    return False, told


def _scores(original: Path, rerun: Path) -> tuple[bool, str]:
    one, other = (_numbers(json.loads(file.read_text(encoding="utf-8"))) for file in (original, rerun))
    different = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    if not different:
        return True, f"{len(one)} numbers"
    values = [key for key in different if ".scores." in f".{key}" and key.endswith(".value") and "baseline" not in key]
    shown = [
        f"{re.sub(r'(^|[.])(targets|scores|value)(?=[.]|$)', '', key).strip('.')} {_score(one, key)} → "
        f"{_score(other, key)}{_within(one, other, key)}"
        for key in values or different[:3]
    ]
    return False, f"{', '.join(shown)}; {len(different)} of {len(one)} numbers differ"


def _numbers(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping):
        return {
            key: value
            for name, child in node.items()
            if name != "test_opened"
            for key, value in _numbers(child, f"{prefix}{name}.").items()
        }
    return {prefix.rstrip("."): node}


def _score(numbers: Mapping[str, Any], key: str) -> str:
    value = numbers.get(key)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _within(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> str:
    """Whether the new score lies in the interval of the original one, where there is one."""
    stem, value = key.removesuffix("value"), other.get(key)
    low, high = (one.get(f"{stem}{end}") for end in ("low", "high"))
    if not key.endswith("value") or None in (low, high, value):
        return ""
    return f" ({'in' if low <= value <= high else 'OUTSIDE'} its 95 % interval {low:.3g} to {high:.3g})"  # type: ignore[operator]


def _form(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else (tensor.dtype, tuple(tensor.shape))


def _bits_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*bits)


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    largest = (one.double() - other.double()).abs().max().item()
    return math.inf if math.isnan(largest) else largest


def _equal(one: "pd.Series[Any]", other: "pd.Series[Any]") -> "pd.Series[bool]":
    return (one == other) | (one.isna() & other.isna())


def _relative(values: pd.DataFrame) -> "pd.Series[float]":
    """Difference by the original's value; infinite where one of them is missing or the original 0."""
    size = (values["value_y"] - values["value_x"]).abs() / values["value_x"].abs()
    return size.fillna(np.inf)


def _change(row: "pd.Series[Any]") -> str:
    return f"{row['value_x']:.9g} → {row['value_y']:.9g}"


def _percent(size: float) -> str:
    return f"{100 * size:.2g} %" if size < 1 else f"{100 * size:.0f} %"


def _named(metrics: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(metrics) - 3} more" if len(metrics) > 3 else ""
    return f"{', '.join(metrics[:3])}{more}"
