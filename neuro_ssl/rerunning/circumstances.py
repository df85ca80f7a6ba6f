"""In what two runs differ before the first step: code, machine, data, initial weights, settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuro_ssl.reporting.runs.differences import flat

UNKNOWN = "not recorded"
# Of a dataset's summary, what tells its content; the numbers of scans and subjects say where it changed.
DATA = (
    *("cohort", "grid", "preprocessing_hash", "manifest_hash", "split", "split_hash"),
    *("n_scans", "n_subjects", "n_excluded"),
)
# Settings that say where things lie, or what is shown; the content of data and weights is compared by hashes.
PLACES = {
    *("data_dir", "runs_dir", "weights", "dataset.root", "dataset.table", "dataset.stores_dir"),
    *("debug", "rerun_of", "open_test"),
}


@dataclass(frozen=True)
class Difference:
    """One thing that was otherwise.

    Attributes:
        what: its name.
        before: in the original run, in words.
        after: in its repetition.
    """

    what: str
    before: str
    after: str


def code_and_machine(original: Mapping[str, Any], rerun: Mapping[str, Any]) -> list[Difference]:
    """Versions, commit and hardware.

    Args:
        original: a run's record, with `versions`, `commit`, `dirty`, `hardware`.
        rerun: its repetition's, or `environment.environment()`.
    """
    before, after = (
        {**record["versions"], "commit": _code(record), **record["hardware"]} for record in (original, rerun)
    )
    return differences(before, after)


def data(original: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The scans and their splits, by `dataset` of two records: a store's summary, wherever it lies."""
    return differences(*({key: d[key] for key in DATA if key in d} for d in (original, now)))


def settings(original: Mapping[str, Any], rerun: Mapping[str, Any]) -> list[Difference]:
    """The resolved configurations, without places and loggers."""
    before, after = (
        {key: value for key, value in flat(config).items() if key not in PLACES and not key.startswith("logger.")}
        for config in (original, rerun)
    )
    return differences(before, after)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """The keys whose values differ; nested ones dotted."""
    one, other = flat(before), flat(after)
    keys = [key for key in {**one, **other} if (key in one, one.get(key)) != (key in other, other.get(key))]
    return [
        Difference(key, *(_words(values[key]) if key in values else UNKNOWN for values in (one, other))) for key in keys
    ]


def _code(record: Mapping[str, Any]) -> str:
    commit = record["commit"] or "unknown (installed package)"
    return f"{commit[:12] if record['commit'] else commit}{', with uncommitted changes' if record['dirty'] else ''}"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)
