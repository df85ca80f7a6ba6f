"""An evaluation from its plan to its tables."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.console import progress_bar
from neuro_ssl.data.targets import Target
from neuro_ssl.environment import environment
from neuro_ssl.evaluating.embeddings import held_out_features
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.predictions import Cell, Predictor
from neuro_ssl.evaluating.record import EvaluationDirectory, fingerprint, reopened
from neuro_ssl.evaluating.results_page import warn_of_few, write_page
from neuro_ssl.evaluating.stability import stability
from neuro_ssl.evaluating.statistics import Statistics
from neuro_ssl.evaluating.summary import summarise
from neuro_ssl.files import appearing
from neuro_ssl.reporting.cautions import learnt_from_labels


class Evaluation:
    """What one command evaluates.

    Args:
        folder: of all evaluations on these people.
        cells: the lines of the tables.
        predictor: makes them.
        statistics: of the scores.
        left_out: of each cohort, the scans that some model cannot be given.
    """

    def __init__(
        self,
        folder: Path,
        cells: Sequence[Cell],
        predictor: Predictor,
        statistics: Statistics,
        left_out: Mapping[str, Sequence[str]],
    ) -> None:
        self.cells, self.predictor = cells, predictor
        self.statistics, self.left_out = statistics, left_out
        self.models: list[Model] = list({cell.model.name: cell.model for cell in cells}.values())
        self.targets: list[Target] = list({cell.task.target.name: cell.task.target for cell in cells}.values())
        self._identities = [predictor.identity(cell) for cell in cells]
        keys = [f"{cell.task.target.name}/{cell.test_set}" for cell in cells]
        wanted = {
            key: fingerprint([digits for digits, own in zip(self._identities, keys, strict=True) if own == key])
            for key in dict.fromkeys(keys)
        }
        shown = [asdict(statistics), [cell.name for cell in cells], [target.model_dump() for target in self.targets]]
        self.directory = EvaluationDirectory(folder, wanted, shown)

    def __str__(self) -> str:
        lines = [str(self.directory.results)]
        for name, scans in self.predictor.scans.items():
            out = f"; {len(self.left_out[name])} are not in every store and left out" if self.left_out[name] else ""
            lines.append(f"  cohort {name}: {len(scans)} scans of {scans['subject_id'].nunique()} subjects{out}")
        for model in self.models:
            if model.role == "pretrained":
                verdicts = dict.fromkeys(str(leakage) for leakage in model.leakage.values())
                lines.append(f"  {model.name}: {'; '.join(verdicts)}")
        return "\n".join(lines)

    @property
    def text(self) -> str:
        """The results for people to read."""
        return (self.directory.results / "results.md").read_text(encoding="utf-8")

    def run(self, config: Mapping[str, Any], reopen: bool) -> None:
        """Predict what is not there yet, and compute all tables.

        Args:
            config: the resolved configuration, for the record.
            reopen: see `EvaluationDirectory.check_openings`, which another evaluation may have changed by now.

        Raises:
            InputError: see there, or another process works in this folder.
        """
        started = time.monotonic()
        with self.directory.locked():
            self.directory.check_openings(reopen)
            self.directory.begin(self._about(config))
            predictions = self._predictions()
            self.directory.write("predictions.parquet", predictions)
            tables = summarise(predictions, self.targets, self.models, self.statistics)
            tables |= stability(self.models, self.predictor.scans, self.predictor.space, predictions, self.statistics)
            for name, table in tables.items():
                self.directory.write(f"{name}.csv", table)
            features = held_out_features(
                self.models, self.predictor.scans, self.predictor.space, predictions, self.targets
            )
            if features is not None:
                self.directory.write("features.parquet", features)
            page = write_page(self._title, self._warnings(tables["scores"]), tables, self.targets, self.models)
            with appearing(self.directory.results / "results.md") as file:
                file.write_text(page, encoding="utf-8")
            self.directory.finish(time.monotonic() - started)

    def _predictions(self) -> pd.DataFrame:
        parts = []
        with progress_bar(total=len(self.cells), desc="models", unit="line", delay=5) as bar:
            for cell, identity in zip(self.cells, self._identities, strict=True):
                file = self.directory.cell(identity)
                if not file.exists():
                    table = self.predictor.predict(cell)
                    with appearing(file) as temporary:
                        table.to_parquet(temporary)
                # Under the name that the model has now.
                parts.append(pd.read_parquet(file).assign(model=cell.model.name))
                bar.update()
        return pd.concat(parts, ignore_index=True)

    @property
    def _title(self) -> str:
        own = next(iter(self.models[0].volumes.values()))
        simulated = " (simulated)" if own.simulated and "simulated" not in own.cohort else ""
        n_encoders = sum(model.role == "pretrained" for model in self.models)
        return f"{n_encoders} pretrained encoder{'s' * (n_encoders != 1)} on cohort {own.cohort}{simulated}"

    def _warnings(self, scores: pd.DataFrame) -> list[str]:
        """What a reader must know before any number."""
        lines = []
        volumes = self.models[0].volumes
        if simulated := [name for name, one in volumes.items() if one.simulated]:
            lines.append(f"Simulated scans ({', '.join(simulated)}): nothing here is about patients.")
        lines += reopened(self.directory.path)
        for model in self.models:
            if model.learnt_from:
                lines.append(learnt_from_labels(model.name, model.learnt_from))
            for test_set, leakage in model.leakage.items():
                if leakage.verdict != "disjoint":
                    lines.append(f"{model.name}, test set {test_set}: {leakage}.")
        return lines + warn_of_few(scores)

    def _about(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "models": [
                {
                    "name": model.name,
                    "role": model.role,
                    "weights": [str(weights.path) for weights in model.weights if weights.trained],
                    "grid": next(iter(model.volumes.values())).grid.name,
                    "leakage": {name: leakage.record for name, leakage in model.leakage.items()},
                    "learnt_from": model.learnt_from,
                }
                for model in self.models
            ],
            "targets": [target.model_dump(mode="json") for target in self.targets],
            "data": {name: dict(volumes.summary) for name, volumes in self.models[0].volumes.items()},
            "left_out": {name: list(ids) for name, ids in self.left_out.items() if ids},
            **environment(),
            "config": dict(config),
        }
