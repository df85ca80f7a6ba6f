"""What a tracker says about a run beside its numbers: where it belongs, what it is called, how it was configured."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.tracking.lineage import used_by
from neuro_ssl.tracking.privacy import without_places

# Of the run record, what is neither a fact nor the configuration, or has a place of its own below.
_ELSEWHERE = {
    "name",
    "status",
    "started",
    "duration_s",
    "command",
    "config",
    "seed",
    "weights",
    "test_opened",
    "validation",
}


@dataclass(frozen=True)
class Description:
    """One run, for a dashboard of many.

    Attributes:
        name: says what differs people, such as `finetune-sex, resnet18, seed 0, val = fold 1 of 0–4, 1a2b3c4d`.
        group: the sweep it is a point of, else the experiment.
        job_type: its stage, `pretraining` or `downstream`.
        tags: task, encoder, dataset, stage.
        config: see `neuro_ssl.tracking`.
    """

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any], sweep: str | None = None) -> "Description":
        """Of what `run.yaml` holds.

        Args:
            record: of the run.
            sweep: name of the sweep, if it is a point of one.
        """
        config, dataset, encoder = record["config"], record["dataset"], record["encoder"]["name"]
        experiment, _, digits = record["name"].rpartition("-")
        differs = [experiment, encoder, f"seed {config['seed']}", dataset.get("split"), digits]
        facts = {key: value for key, value in record.items() if key not in _ELSEWHERE}
        # Without ages and sexes, whose extremes and small numbers may tell of one person.
        facts["dataset"] = {key: value for key, value in dataset.items() if key != "demographics"}
        lineage = {name: {"name": used.name, **used.facts} for name, used in used_by(record).items()}
        weights = record["weights"] and record["weights"]["name"]
        return cls(
            name=", ".join(filter(None, differs))[:128],  # W&B's limit, as the 64 below
            group=(sweep or config["name"])[:128],
            job_type=record["stage"],
            tags=tuple(
                dict.fromkeys(tag[:64] for tag in (record["task"], encoder, dataset["cohort"], record["stage"]))
            ),
            config=without_places({**config, "weights": weights, "facts": facts, "lineage": lineage}),
        )


def summary_of(directory: Path, record: Mapping[str, Any], status: str) -> dict[str, Any]:
    """What is left to say when a run is over.

    Args:
        directory: of the run.
        record: what `run.yaml` holds.
        status: `finished`, `failed`, `pruned` or `stopped`.

    Returns:
        `status`, `duration_s`, the validation score that chose the epoch as `best/<metric>` with `best/epoch`, and of a
        downstream run its final scores as `test/<metric>`, `…_low`, `…_high`, or `validation/<metric>` where the test
        split stayed closed.
    """
    so_far = time.time() - datetime.fromisoformat(record["started"]).timestamp()
    summary: dict[str, Any] = {"status": status, "duration_s": record["duration_s"] or round(so_far, 1)}
    if status == "finished" and (best := record.get("validation")):
        name = best["metric"]
        summary[f"best/{name}"] = best["value"]
        history = pd.read_csv(directory / "metrics.csv")
        at = history[
            (history["metric"] == name) & ((history["value"] - best["value"]).abs() <= 1e-6 * abs(best["value"]))
        ]
        if not at.empty:
            summary["best/epoch"] = int(at["epoch"].iloc[0])
    for split, file in (("test", "results.json"), ("validation", "validation.json")):
        if status == "finished" and (directory / file).exists():
            results = json.loads((directory / file).read_text(encoding="utf-8"))
            of_targets = {f"{name}/": scored for name, scored in results.get("targets", {}).items()} or {"": results}
            summary |= {
                f"{split}/{of}{metric}{'' if part == 'value' else f'_{part}'}": value
                for of, scored in of_targets.items()
                for metric, score in scored["scores"].items()
                for part, value in score.items()
                if value is not None
            }
    return summary
