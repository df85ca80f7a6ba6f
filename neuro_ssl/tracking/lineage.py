"""What a run was made of and what came of it, as references with a hash: no file leaves the machine, and no path.

    neuro-ssl://simclr_pretrain-1a2b3c4d/last.ckpt#sha256=…    a run's weights, by the SHA-256 of their file
    neuro-ssl://adni/manifest#hash=…                           a cohort's manifest, by the hash that runs record of it

The run that makes it and the run that uses it give the same reference, which Weights & Biases takes for one artifact:
so it draws the graph from pretraining to fine-tuning.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro_ssl.run import RunDirectory


@dataclass(frozen=True)
class Reference:
    """Something that lies elsewhere.

    Attributes:
        name: of the artifact.
        kind: `model` or `dataset`.
        entry: what of it.
        facts: to be shown beside it; the first is the hash of its content.
    """

    name: str
    kind: str
    entry: str
    facts: Mapping[str, Any]

    @property
    def uri(self) -> str:
        """By name and content; nobody can fetch anything by it."""
        key, digest = next(iter(self.facts.items()))
        return f"neuro-ssl://{self.name}/{self.entry}#{key}={digest}"


def used_by(record: Mapping[str, Any]) -> dict[str, Reference]:
    """What a run starts from: its manifest, and weights if any.

    Args:
        record: what `run.yaml` holds.
    """
    data = record["dataset"]
    facts = {"hash": data["manifest_hash"], **{key: data[key] for key in ("preprocessing_hash", "split_hash", "grid")}}
    used = {"manifest": Reference(_artifact_name(data["cohort"]), "dataset", "manifest", facts)}
    if weights := record["weights"]:
        path = Path(weights["path"])
        file = path if path.is_file() else path / "model.safetensors"
        used["weights"] = _weights(
            weights["name"], file if file.is_file() else _of_run(path, RunDirectory(path).record)
        )
    return used


def made_by(directory: Path, record: Mapping[str, Any]) -> Reference:
    """The weights that a finished run hands on.

    Args:
        directory: of the run.
        record: what `run.yaml` holds.
    """
    return _weights(record["name"], _of_run(directory, record))


def _of_run(directory: Path, record: Mapping[str, Any]) -> Path:
    """The checkpoint that `weights=` takes of a run (see `neuro_ssl.checkpoint`)."""
    return directory / "checkpoints" / ("last.ckpt" if record["stage"] == "pretraining" else "best.ckpt")


def _weights(name: str, file: Path) -> Reference:
    known = file.name in ("last.ckpt", "best.ckpt", "model.safetensors")  # else somebody's own name of a file
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Reference(_artifact_name(name), "model", file.name if known else "weights", {"sha256": digest})


def _artifact_name(name: str) -> str:
    """Of the characters that W&B takes."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:128]
