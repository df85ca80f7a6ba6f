"""The run directory: its name, its record (`run.yaml`), and what else lies in it.

    run.yaml              what ran: command, data, weights, versions, commit, hardware, times, status, and the resolved
                          configuration
    metrics.csv           history: epoch, step, metric, value
    checkpoints/          best.ckpt, last.ckpt
    views.npz, views.png  pretraining: three scans and the views of each
    reconstructions.png   masked autoencoders: what the encoder sees of two scans, and what becomes of it
    roc.png, …            downstream: its predictions, and what they hang on in a few scans (see `callbacks.outcome`)
    splits.csv            which subject was in which split
    seen.json             hashes of the subjects and images that the weights have seen (see `neuro_ssl.data.leakage`)
    predictions.parquet   downstream: one row a scan and target
    results.json          downstream: scores on the test split, with 95 % intervals
    validation.json       the same of the validation split, of a run that ended with its test split closed
    wandb/, tensorboard/  the trackers' own files

A run is named after what affects its result (see `run_names`), so that the same command finds it again.
"""

import json
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import yaml

from neuro_ssl.environment import command_line, environment
from neuro_ssl.errors import InputError
from neuro_ssl.files import LEFTOVER, appearing, held
from neuro_ssl.modules import state_hash

if TYPE_CHECKING:
    from neuro_ssl.checkpoint import Weights


def describe_run(
    config: dict[str, Any],
    choices: dict[str, str],
    task: Any,
    data: dict[str, Any],
    weights: "Weights | None",
    leakage: dict[str, Any] | None,
    n_processes: int,
) -> dict[str, Any]:
    """What `run.yaml` says about a run: what is done to what, by which code, where.

    Args:
        config: the resolved configuration.
        choices: the chosen option of each configuration group.
        task: the LightningModule.
        data: `summary` of the volume store, and `split`, how it was divided otherwise than on file.
        weights: what the encoder starts from.
        leakage: record of the verdict; None for pretraining, which evaluates nobody.
        n_processes: that train together.
    """
    learnt = weights.record.get("covariates") or [] if weights else []  # labels that pretraining learnt from
    return {
        "stage": task.stage,
        "task": choices["task"],
        "command": command_line(),
        "seed": config["seed"],
        "dataset": data,
        "encoder": {
            "name": weights.encoder_name if weights else choices["encoder"],
            "parameters_millions": round(sum(p.numel() for p in task.encoder.parameters()) / 1e6, 2),
        },
        "weights": {"name": weights.name, "path": str(weights.path), **weights.carried} if weights else None,
        **({"weights_hash": state_hash(weights.state)} if weights else {}),
        "leakage": leakage,
        **({"test_opened": []} if task.stage == "downstream" else {}),
        "covariates": sorted({*getattr(task, "covariates", ()), *learnt}),
        "frozen": config["frozen"],
        "epochs": config["trainer"]["max_epochs"],
        "batch_size": config["batch_size"],
        **environment(n_processes),
        "config": config,
    }


class RunDirectory:
    """One run's folder and its record.

    Args:
        path: the folder; made by `begin`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> dict[str, Any]:
        """What `run.yaml` holds; empty before `begin`.

        Raises:
            InputError: the file is damaged.
        """
        file = self.path / "run.yaml"
        if not file.exists():
            return {}
        try:
            record = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise InputError(f"{file} is not valid YAML ({error}); delete {self.path} to run again") from error
        if not isinstance(record, dict):
            raise InputError(f"{file} holds no record; delete {self.path} to run again")
        return record

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.record.get("status") == "finished"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def results(self) -> dict[str, Any] | None:
        """A downstream run's scores on the test split; None before they are there."""
        return self._scores("results.json")

    @property
    def validation(self) -> dict[str, Any] | None:
        """Those on the validation split, of a run that ended with its test split closed; else None."""
        return self._scores("validation.json")

    def validation_score(self, objective: str | None = None) -> float | None:
        """A finished run's score on validation subjects.

        Args:
            objective: of pretraining, which metric of its last epoch to take.

        Returns:
            Of a downstream run what chose its epoch; of pretraining the objective, None without one.

        Raises:
            InputError: the run ended without measuring it.
        """
        record = self.record
        if objective and record.get("validation") != (measured := self._last_measured(objective)):
            record["validation"] = measured
            self._write(record)
        score: float | None = record.get("validation", {}).get("value")
        return score

    def _last_measured(self, metric: str) -> dict[str, Any]:
        """A metric at the end of the last epoch, whose weights are the ones handed on."""
        file = self.path / "metrics.csv"
        history = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["epoch", "metric", "value"])
        found = history[(history["metric"] == metric) & (history["epoch"] == history["epoch"].max())]
        if found.empty:
            raise InputError(f"{self.path} ended without measuring {metric}; delete it to run it again")
        return {"metric": metric, "value": float(found["value"].iloc[-1])}

    def _scores(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        except ValueError as error:
            raise InputError(f"{file} is damaged ({error}); delete {self.path} to run again") from error

    def open_test(self) -> None:
        """Note that the test split is opened now: before a score of it exists."""
        record = self.record
        self._write({**record, "test_opened": [*record["test_opened"], _now()]})

    def write_results(self, predictions: pd.DataFrame, results: dict[str, Any]) -> None:
        """Keep a downstream run's prediction table and its scores; of the test split with when it was opened."""
        with appearing(self.path / "predictions.parquet") as temporary:
            predictions.to_parquet(temporary)
        if (predictions["split"] == "test").any():
            results = {**results, "test_opened": self.record["test_opened"]}
            _write_text(self.path / "results.json", json.dumps(results, indent=2))
        else:
            _write_text(self.path / "validation.json", json.dumps(results, indent=2))

    @contextmanager
    def locked(self, first_process: bool) -> Iterator[None]:
        """Hold the run, so that the same command started a second time meanwhile is refused.

        The operating system lets go of it when the process ends, however it ends.

        Args:
            first_process: whether this is the run's first process; the others come along with it.

        Raises:
            InputError: another process holds it, or the folder cannot be written.
        """
        if not first_process:
            yield
            return
        with held(self.path, work="works on this run", elsewhere="choose another runs_dir"):
            yield

    def last_checkpoint(self) -> Path | None:
        """The checkpoint to go on from; None to begin.

        Warns:
            UserWarning: the last one is damaged; then it is the one before.

        Raises:
            InputError: all are damaged.
        """
        found = [file for name in ("last.ckpt", "previous.ckpt") if (file := self.checkpoints / name).exists()]
        for file in found:
            problem = _damage(file)
            if problem is None:
                return file
            rest = found[found.index(file) + 1 :]
            if not rest:
                raise InputError(f"{file} is damaged ({problem}); delete {self.path} to begin anew")
            warnings.warn(f"{file} is damaged ({problem}); going on from {rest[0]}", stacklevel=2)
        return None

    def begin(self, record: dict[str, Any], resume_from: Path | None) -> None:
        """Make the folder and note what is about to run; on a restart, cut the history back to the checkpoint.

        What a killed process left half written goes, and a damaged checkpoint, so that it never becomes the one that
        is kept beside the next.

        Raises:
            InputError: the folder cannot be written.
        """
        times = {"started": _now(), "duration_s": None}
        before = {key: value for key, value in self.record.items() if key in (*times, "test_opened")}
        self._write({"name": self.path.name, "status": "running", **times, **record, **before})
        for file in (*self.path.glob(".*"), *self.checkpoints.glob(".*")):
            if LEFTOVER.fullmatch(file.name):
                file.unlink()
        if resume_from and resume_from.name == "previous.ckpt":
            (self.checkpoints / "last.ckpt").unlink(missing_ok=True)
        self._rewind_metrics(resume_from)

    def note(self, **entries: Any) -> None:
        """Add to the record what the run finds out on its way."""
        self._write({**self.record, **entries})

    def write_splits(self, manifest: pd.DataFrame) -> None:
        """Keep which subject was in which split."""
        table = manifest[["subject_id", "split"]].dropna().drop_duplicates().sort_values("subject_id")
        _write_text(self.path / "splits.csv", table.to_csv(index=False))

    def _rewind_metrics(self, resume_from: Path | None) -> None:
        """Drop what was logged after the checkpoint: it will be logged again."""
        file = self.path / "metrics.csv"
        if not file.exists():
            return
        step = torch.load(resume_from, weights_only=True, map_location="cpu")["global_step"] if resume_from else 0
        whole = file.read_text().rpartition("\n")[0]  # without a line that a full disk or a kill cut short
        if not whole:
            file.unlink()
            return
        metrics = pd.read_csv(StringIO(whole), dtype=str, keep_default_na=False)
        _write_text(file, metrics[metrics["step"].astype(int) < step].to_csv(index=False))

    def prune(self) -> None:
        """Note that a search stopped the run; the same command by itself goes on with it."""
        self._write({**self.record, "status": "pruned"})

    def finish(self, epochs_trained: int, metric: str | None = None, value: float | None = None) -> None:
        """Note that the run came to its end; of a downstream run also the validation score that chose its epoch."""
        record = self.record
        if record["duration_s"] is None:  # else it was finished before, and is now tested
            seconds = time.time() - datetime.fromisoformat(record["started"]).timestamp()
            record["duration_s"] = round(seconds, 1)
        if metric:
            record["validation"] = {"metric": metric, "value": value}
        self._write({**record, "status": "finished", "epochs_trained": epochs_trained})

    def _write(self, record: dict[str, Any]) -> None:
        _write_text(self.path / "run.yaml", yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def _damage(checkpoint: Path) -> str | None:
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if record := archive.testzip():
                return f"checksum of {record} is wrong"
        torch.load(checkpoint, weights_only=True, map_location="meta")
    except Exception as error:  # whatever a truncated or foreign file makes of the reader
        return str(error).split("\n")[0] or type(error).__name__
    return None


def _write_text(path: Path, text: str) -> None:
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
