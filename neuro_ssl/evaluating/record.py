"""The directory of an evaluation, and the record of when the labels of its test sets were looked at.

    evaluation.yaml       what was evaluated: command, models, data, versions, commit; and every opening of a test set
    predictions/          a table a cell, so that an interrupted evaluation goes on
    predictions.parquet   all of them, see `predictions`
    *.csv, results.md     scores, comparisons, label efficiency, subgroups, …, see `summary`

An evaluation is named after whom it is judged on: the cohort, its scans and their split. So another set of encoders or
protocols on the same people comes here too, where it is seen that they were looked at before.
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
from filelock import FileLock, Timeout

from neuro_ssl.data.volumes import Volumes
from neuro_ssl.environment import command_line
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing

FILE = "evaluation.yaml"


def evaluation_name(volumes: Volumes) -> str:
    """`evaluation-<cohort>-` and eight digits that stand for its scans, labels and split."""
    content = json.dumps([volumes.identity["manifest_hash"], volumes.summary["split_hash"]])
    return f"evaluation-{volumes.cohort}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def fingerprint(identities: list[str]) -> str:
    """Of the cells that look at one test set."""
    return hashlib.sha256(" ".join(sorted(identities)).encode()).hexdigest()[:16]


class EvaluationDirectory:
    """One evaluation's folder and its record.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> dict[str, Any]:
        """What `evaluation.yaml` holds; empty before anything was opened.

        Raises:
            InputError: the file is damaged.
        """
        return read_record(self.path / FILE) if (self.path / FILE).exists() else {}

    @property
    def openings(self) -> dict[str, list[dict[str, Any]]]:
        """Of each task and test set (`brain_age/test`), when its labels were looked at, and by which evaluation."""
        openings: dict[str, list[dict[str, Any]]] = self.record.get("openings", {})
        return openings

    def check_openings(self, wanted: Mapping[str, str], reopen: bool) -> bool:
        """Refuse to look again at a test set with other models, protocols or settings, unless it is asked for.

        Args:
            wanted: fingerprint of each task and test set.
            reopen: it is.

        Returns:
            Whether the evaluation is there, finished, as it is wanted.

        Raises:
            InputError: naming what was opened, and when.
        """
        record = self.record
        for key, digits in wanted.items():
            earlier = record.get("openings", {}).get(key, [])
            if earlier and earlier[-1]["fingerprint"] != digits and not reopen:
                times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
                raise InputError(
                    f"{self.path}: the test set {key} was opened {times}, last on {earlier[-1]['time']}, and this "
                    "evaluation is another one (models, protocols, seeds, fractions or version differ). To choose "
                    "among models, use validation data; to look again all the same, reopen_test=true, which every "
                    "report says"
                )
        return bool(record.get("finished")) and record.get("wanted") == dict(wanted)

    def begin(self, wanted: Mapping[str, str], about: Mapping[str, Any]) -> None:
        """Note what is about to be looked at, before it is.

        Args:
            wanted: see `check_openings`.
            about: what else the record says.
        """
        openings = self.openings
        for key, digits in wanted.items():
            before = openings.setdefault(key, [])
            if not before or before[-1]["fingerprint"] != digits:
                before.append({"time": _now(), "fingerprint": digits, "command": command_line()})
        record = {**about, "command": command_line(), "finished": None, "wanted": dict(wanted), "openings": openings}
        self._write(record)

    def finish(self, seconds: float) -> None:
        """Note that all is there, and how long it took."""
        self._write(self.record | {"finished": _now(), "duration_s": round(seconds, 1)})

    def _write(self, record: Mapping[str, Any]) -> None:
        with appearing(self.path / FILE) as file:
            file.write_text(yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True), encoding="utf-8")

    def cell(self, identity: str) -> Path:
        """The file of a cell's predictions."""
        return self.path / "predictions" / f"{identity}.parquet"

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Put a table into the folder, as CSV or Parquet by its name."""
        with appearing(self.path / name) as file:
            table.to_parquet(file) if name.endswith(".parquet") else table.to_csv(file, index=False)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second evaluation at the same time.

        Raises:
            InputError: another process holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock").acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process works on this evaluation; wait for it or stop it"
            ) from error
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}): choose another runs_dir") from error
        with lock:
            yield


def read_record(file: Path) -> dict[str, Any]:
    """What an `evaluation.yaml` holds.

    Raises:
        InputError: it is damaged.
    """
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not isinstance(record["openings"], dict):
            raise ValueError("no record of openings")
    except (yaml.YAMLError, ValueError, KeyError) as error:
        raise InputError(
            f"{file} is damaged ({error}); it says who has looked at the test set: bring it back, or delete the folder "
            "and say so where you publish"
        ) from error
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
