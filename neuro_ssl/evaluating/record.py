"""The folder of evaluations, and the record of when the labels of its test sets were looked at.

    openings.yaml             every time that the labels of a test set were looked at, by which evaluation
    predictions/              a table a cell, so that an interrupted evaluation goes on, and a larger one begins there
    results-1a2b3c4d/         one evaluation:
        evaluation.yaml       command, models, data, versions, commit, configuration
        predictions.parquet   all predictions, see `predictions`
        features.parquet      of held-out scans, see `embeddings`
        *.csv, results.md     scores, comparisons, label efficiency, subgroups, …, see `summary` and `stability`

The folder is named after whom models are judged on: the cohort, its scans and their split. So another set of encoders
or protocols on the same people, another grid or corrected labels come here too, where it is seen that they were looked
at before.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from neuro_ssl.data.volumes import Volumes
from neuro_ssl.environment import command_line
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing, held

OPENINGS = "openings.yaml"


def evaluation_name(volumes: Volumes) -> str:
    """`evaluation-<cohort>-` and eight digits that stand for its scans and their split, whatever grid they are on."""
    people = volumes.manifest[["scan_id", "subject_id", "split"]].sort_values("scan_id")
    return f"evaluation-{volumes.cohort}-{hashlib.sha256(people.to_csv(index=False).encode()).hexdigest()[:8]}"


def fingerprint(identities: list[str]) -> str:
    """Of the cells that look at one test set."""
    return hashlib.sha256(" ".join(sorted(identities)).encode()).hexdigest()[:16]


class EvaluationDirectory:
    """The folder of all evaluations on the same people, and one of them.

    Args:
        path: the folder.
        wanted: of this evaluation, a fingerprint of all that looks at each task's labels of a test set.
        shown: of this evaluation, what decides how that is summed up and shown.
    """

    def __init__(self, path: Path, wanted: Mapping[str, str], shown: Any = None) -> None:
        self.path, self.wanted = path, dict(wanted)
        decides = [json.dumps(shown, sort_keys=True, default=str), *(f"{key} {one}" for key, one in wanted.items())]
        self.results = path / f"results-{fingerprint(decides)[:8]}"

    @property
    def openings(self) -> dict[str, list[dict[str, Any]]]:
        """Of each task and test set (`brain_age/test`), when its labels were looked at, and by which evaluation."""
        return read_openings(self.path / OPENINGS)

    @property
    def is_finished(self) -> bool:
        """Whether this evaluation is there."""
        file = self.results / "evaluation.yaml"
        return file.exists() and bool((yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("finished"))

    def check_openings(self, reopen: bool) -> None:
        """Refuse to look again at a test set with other models, protocols or settings, unless it is asked for.

        Args:
            reopen: it is.

        Raises:
            InputError: naming what was opened, and when.
        """
        openings = self.openings
        for key, digits in self.wanted.items():
            earlier = openings.get(key, [])
            if earlier and earlier[-1]["fingerprint"] != digits and not reopen:
                times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
                raise InputError(
                    f"{self.path}: the test set {key} was opened {times}, last on {earlier[-1]['time']}, and this "
                    "evaluation is another one (models, protocols, seeds, fractions or version differ). To choose "
                    "among models, use validation data; to look again all the same, reopen_test=true, which every "
                    "report says"
                )

    def begin(self, about: Mapping[str, Any]) -> None:
        """Note what is about to be looked at, before it is.

        Args:
            about: what else the record says.
        """
        openings = self.openings
        for key, digits in self.wanted.items():
            before = openings.setdefault(key, [])
            if not before or before[-1]["fingerprint"] != digits:
                before.append({"time": _now(), "fingerprint": digits, "command": command_line()})
        _write(self.path / OPENINGS, openings)
        _write(self.results / "evaluation.yaml", {"command": command_line(), "finished": None, **about})

    def finish(self, seconds: float) -> None:
        """Note that all is there, and how long it took."""
        file = self.results / "evaluation.yaml"
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
        _write(file, record | {"finished": _now(), "duration_s": round(seconds, 1)})

    def cell(self, identity: str) -> Path:
        """The file of a cell's predictions."""
        return self.path / "predictions" / f"{identity}.parquet"

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Put a table of this evaluation there, as CSV or Parquet by its name."""
        with appearing(self.results / name) as file:
            table.to_parquet(file) if name.endswith(".parquet") else table.to_csv(file, index=False)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second evaluation at the same time.

        Raises:
            InputError: another process holds it, or it cannot be written.
        """
        with held(self.path, work="works on this evaluation", elsewhere="choose another runs_dir"):
            yield


def read_openings(file: Path) -> dict[str, list[dict[str, Any]]]:
    """What an `openings.yaml` holds; nothing if it isn't there.

    Raises:
        InputError: it is damaged.
    """
    if not file.exists():
        return {}
    try:
        openings = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(openings, dict) or not all(
            {"time", "fingerprint"} <= set(o) for v in openings.values() for o in v
        ):
            raise ValueError("no times")
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is damaged ({error}); it says who has looked at the test set: bring it back, or delete the folder "
            "and say so where you publish"
        ) from error
    return openings


def reopened(folder: Path) -> list[str]:
    """A line for each test set that was looked at more than once, by the evaluations below a folder.

    Raises:
        InputError: a record is damaged.
    """
    lines = []
    for file in sorted(folder.rglob(OPENINGS)):
        for key, times in read_openings(file).items():
            if len(times) > 1:
                dates = ", ".join(str(one["time"])[:10] for one in times)
                lines.append(
                    f"The test set {key} of {file.parent.name} was opened {len(times)} times, {dates}: scores of the "
                    "later ones are optimistic if models were chosen by the earlier."
                )
    return lines


def _write(file: Path, content: Mapping[str, Any]) -> None:
    with appearing(file) as temporary:
        temporary.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
