"""Finding and loading the weights that `weights=` names: so far, a run directory.

Nothing is unpickled beyond tensors and plain containers (`weights_only=True`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from neuro_ssl.errors import InputError
from neuro_ssl.run import RunDirectory


@dataclass(frozen=True)
class Weights:
    """An encoder's weights and where they come from.

    Attributes:
        name: of the run.
        path: the run directory.
        record: the run's `run.yaml`.
        encoder: configuration of the encoder that the weights belong to.
        state: the encoder's parameters and buffers.
    """

    name: str
    path: Path
    record: dict[str, Any]
    encoder: dict[str, Any]
    state: dict[str, Tensor]

    @classmethod
    def load(cls, weights: str) -> "Weights":
        """Read the encoder's weights of a finished run: the last of a pretraining, the best of a downstream run.

        Raises:
            InputError: no such directory, no run in it, unfinished, or a checkpoint that cannot be read.
        """
        path = Path(weights)
        run = RunDirectory(path)
        if not path.is_dir() or not run.record:
            raise InputError(f"weights={weights} is not a run directory: expected a folder with a run.yaml in it")
        if not run.finished:
            raise InputError(f"weights={weights}: that run is unfinished; start its command again to continue it")
        file = run.checkpoints / ("last.ckpt" if run.record["stage"] == "pretraining" else "best.ckpt")
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
        except Exception as error:
            raise InputError(f"{file} cannot be read as a checkpoint: {error}") from error
        prefix = "encoder."
        return cls(
            name=path.resolve().name,
            path=path,
            record=run.record,
            encoder=yaml.safe_load((path / "config.yaml").read_text())["encoder"],
            state={key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)},
        )

    def check_data(self, dataset: Mapping[str, Any]) -> None:
        """Refuse scans that were prepared in another way than those that the weights were trained on.

        How the brain was found may differ: a given mask and a network's are both brain masks.

        Args:
            dataset: `summary` of a volume store, with `grid` and `preprocessing`.

        Raises:
            InputError: another grid or another preprocessing.
        """

        def prepared(record: Mapping[str, Any]) -> dict[str, Any]:
            return {"grid": record["grid"], **record["preprocessing"], "brain_extraction": None}

        theirs, ours = prepared(self.record["dataset"]), prepared(dataset)
        different = [key for key in theirs | ours if theirs.get(key) != ours.get(key)]
        if different:
            key = different[0]
            raise InputError(
                f"weights={self.path} were trained on scans with {key}={theirs.get(key)}, these have "
                f"{key}={ours.get(key)}: preprocess them in the same way, and name the store by grid=…"
            )

    def into(self, encoder: nn.Module) -> None:
        """Load the weights into an encoder, every tensor of both sides.

        Raises:
            InputError: names or shapes differ.
        """
        try:
            encoder.load_state_dict(self.state)
        except RuntimeError as error:
            raise InputError(f"weights={self.path} do not fit the encoder: {error}") from error
