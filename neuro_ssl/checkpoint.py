"""Finding and loading the weights that `weights=` names: so far, a run directory.

Nothing is unpickled beyond tensors and plain containers (`weights_only=True`).
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
        again = f"delete {path} and train it again"
        if missing := {"stage", "dataset", "config"} - set(run.record):
            raise InputError(f"{path / 'run.yaml'} lacks {', '.join(sorted(missing))}; {again}")
        try:
            encoder = dict(run.record["config"]["encoder"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path / 'run.yaml'}: its config describes no encoder; {again}") from error
        file = run.checkpoints / ("last.ckpt" if run.record["stage"] == "pretraining" else "best.ckpt")
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
        except Exception as error:  # whatever a missing, truncated or foreign file makes of the reader
            raise InputError(f"{file} cannot be read as a checkpoint ({_first_line(error)}); {again}") from error
        prefix = "encoder."
        return cls(
            name=path.resolve().name,
            path=path,
            record=run.record,
            encoder=encoder,
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

    def build_encoder(self) -> nn.Module:
        """The encoder with its weights, on the CPU.

        Raises:
            InputError: this version of the code has no such encoder, or the weights don't fit it.
        """
        parameters = dict(self.encoder)
        target = parameters.pop("_target_")
        module, _, name = target.rpartition(".")
        try:
            encoder: nn.Module = getattr(importlib.import_module(module), name)(**parameters)
        except (ImportError, AttributeError, TypeError, InputError) as error:
            raise InputError(
                f"weights={self.path}: their encoder {target} cannot be built ({error}); install the version of the "
                "code that run.yaml names"
            ) from error
        self._load_into(encoder)
        return encoder

    def _load_into(self, encoder: nn.Module) -> None:
        """Every tensor of both sides; a mismatch names the first layer and both shapes."""
        ours = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in self.state.items()}
        different = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        if different:
            name = different[0]
            raise InputError(
                f"weights={self.path} do not fit the encoder in {len(different)} tensors, first {name}: shape "
                f"{theirs.get(name, 'missing')} in the checkpoint, {ours.get(name, 'missing')} in the encoder; its "
                "run.yaml or its checkpoint was changed: delete the run and train it again"
            )
        encoder.load_state_dict(self.state)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
