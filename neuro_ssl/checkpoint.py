"""The weights that `weights=` names: a run directory, an exported or imported folder, or somebody's published file.

A folder, here or on the Hugging Face hub (`hf://org/name@revision`, see `neuro_ssl.hub`), holds

    model.safetensors   the encoder's tensors
    config.json         the encoder, what it expects of its input, licence, advice, citation, cohorts, origin; exported
                        from a run, that run's name and what of its record is for others (see `neuro_ssl.exporting`)
    seen.json           what is known of whom they were trained on (see `neuro_ssl.data.leakage`)

Nothing is unpickled beyond tensors and plain containers (`weights_only=True`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from neuro_ssl.contract import Contract, Intensity
from neuro_ssl.data.leakage import FILE as SEEN_FILE
from neuro_ssl.data.leakage import Seen
from neuro_ssl.encoders.published import Published, import_published
from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.grid import Grid
from neuro_ssl.hub import SCHEME, fetched
from neuro_ssl.modules import build_module, with_all_names
from neuro_ssl.run import RunDirectory

CONFIG, TENSORS = "config.json", "model.safetensors"
FORMAT = 1  # of config.json
AGAIN = "import or export the weights again"
CARRIED = ("intensity", "licence", "advice", "citation")  # of others' weights, by the runs that start from them


@dataclass(frozen=True)
class Weights:
    """An encoder's weights and where they come from.

    Attributes:
        name: of the run, or kind and hash of somebody's file.
        path: the run directory, folder or file.
        record: the run's `run.yaml`, in an exported folder a part of it; empty for others' weights.
        encoder: configuration of the encoder that the weights belong to.
        state: the encoder's parameters and buffers.
        card: of a folder: `config.json`.
        contract: what a folder's weights expect of a volume; None for a run's, which expect what it was trained on.
        trained: false for initial weights, which have seen nobody.
    """

    name: str
    path: Path
    record: dict[str, Any]
    encoder: dict[str, Any]
    state: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict)
    contract: Contract | None = None
    trained: bool = True

    @classmethod
    def load(cls, weights: str) -> "Weights":
        """Read an encoder's weights; of a pretraining run the last, of a downstream run the best.

        Args:
            weights: a run directory, a folder of `save`, `hf://org/name[@revision]` for one on the Hugging Face hub, or
                a published file, which is imported on the fly.

        Raises:
            InputError: none of these, an unfinished run, or a file that cannot be read.
        """
        if weights.startswith(SCHEME):
            path = fetched(weights, [CONFIG, TENSORS, SEEN_FILE])
            if not (path / CONFIG).is_file():
                raise InputError(f"weights={weights} holds no {CONFIG}, so it was not exported by this package")
            return cls._of_folder(path)
        path = Path(weights)
        if path.is_file():
            try:
                return cls.of_published(path, import_published(path))
            except InputError as error:
                raise InputError(
                    f"weights={weights} is not a run directory (expected a folder with a run.yaml in it), and no file "
                    f"that can be imported: {error}"
                ) from error
        return cls._of_folder(path) if (path / CONFIG).is_file() else cls._of_run(path)

    @classmethod
    def of_published(cls, path: Path, published: Published) -> "Weights":
        """Others' weights that were read from this file."""
        card = {"format": FORMAT, **published.card(path)}
        return cls(_name(card), path, {}, published.encoder, published.state, card, Contract.of_json(card["input"]))

    @classmethod
    def _of_folder(cls, path: Path) -> "Weights":
        file = path / CONFIG
        try:
            card = json.loads(file.read_text(encoding="utf-8"))
            if card["format"] != FORMAT:
                raise InputError(f"its format is {card['format']}, and this version reads {FORMAT}")
            if missing := {*CARRIED[1:], "title", "cohorts"} - set(card):
                raise InputError(f"it lacks {', '.join(sorted(missing))}")
            # A folder may come from anywhere: it names an encoder of ours, and calls nothing else.
            if not str(card["encoder"]["_target_"]).startswith("neuro_ssl.encoders."):
                raise InputError(f"its encoder {card['encoder']['_target_']} is none of neuro_ssl.encoders")
            contract, encoder, record = (
                Contract.of_json(card["input"]),
                dict(card["encoder"]),
                dict(card.get("run", {})),
            )
            if record and (missing := {"grid", "preprocessing"} - set(record["dataset"])):
                raise InputError(f"its run.dataset lacks {', '.join(sorted(missing))}")
            name = str(record["name"]) if record else _name(card)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{file} cannot be read ({_first_line(error)}); {AGAIN}") from error
        try:
            state = load_file(path / TENSORS)
        except Exception as error:  # whatever a missing, truncated or foreign file makes of the reader
            raise InputError(f"{path / TENSORS} cannot be read ({_first_line(error)}); {AGAIN}") from error
        return cls(name, path, record, encoder, state, card, contract)

    @classmethod
    def _of_run(cls, path: Path) -> "Weights":
        run = RunDirectory(path)
        record = run.record  # read once: parsing it takes longer than all else
        if not path.is_dir() or not record:
            raise InputError(
                f"weights={path} is not a run directory: expected a folder with a run.yaml in it, one with a "
                f"{CONFIG}, or a published file"
            )
        if record.get("status") != "finished":
            raise InputError(f"weights={path}: that run is unfinished; start its command again to continue it")
        again = f"delete {path} and train it again"
        if missing := {"stage", "dataset", "config"} - set(record):
            raise InputError(f"{path / 'run.yaml'} lacks {', '.join(sorted(missing))}; {again}")
        try:
            encoder = dict(record["config"]["encoder"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path / 'run.yaml'}: its config describes no encoder; {again}") from error
        file = run.checkpoints / ("last.ckpt" if record["stage"] == "pretraining" else "best.ckpt")
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
        except Exception as error:  # whatever a missing, truncated or foreign file makes of the reader
            raise InputError(f"{file} cannot be read as a checkpoint ({_first_line(error)}); {again}") from error
        prefix = "encoder."
        return cls(
            name=path.resolve().name,
            path=path,
            record=record,
            encoder=encoder,
            state={key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)},
        )

    @classmethod
    def untrained(cls, encoder: dict[str, Any], seed: int, like: "Weights | None" = None) -> "Weights":
        """An encoder as it is before any training.

        Args:
            encoder: its configuration.
            seed: of the initial weights.
            like: trained weights, whose volumes it is to be given in the same way.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = build_module(encoder).state_dict()
        new = cls(f"untrained-{seed}", Path("untrained"), {}, encoder, state, trained=False)
        return replace(like, name=new.name, path=new.path, state=state, trained=False) if like else new

    @property
    def seen(self) -> Seen:
        """Whom they were trained on, as far as they say."""
        if not self.trained:
            return Seen()
        if self.contract is None or (self.path / SEEN_FILE).is_file():
            return Seen.by(self.path)
        return Seen(complete=False, cohorts=frozenset(self.card["cohorts"]))

    @property
    def carried(self) -> dict[str, Any]:
        """Of a folder's weights, what runs that start from them carry along; empty where all is this package's own."""
        if self.contract is not None:
            return {"intensity": self.contract.intensity, **{key: self.card[key] for key in CARRIED[1:]}}
        origin = self.record.get("weights") or {}
        return {key: origin[key] for key in CARRIED if key in origin}

    @property
    def encoder_name(self) -> str:
        """What to call the encoder in tables."""
        return str(self.card["kind"] if self.contract is not None else self.record["encoder"]["name"])

    @property
    def intensity(self) -> Intensity:
        """How volumes are to be normalised for the encoder."""
        intensity: Intensity = self.carried.get("intensity", "z_score_brain")
        return intensity

    def check_data(self, dataset: Mapping[str, Any]) -> None:
        """Refuse scans that were prepared in another way than the weights expect.

        How the brain was found may differ: a given mask and a network's are both brain masks. Others' weights say what
        grid they need; the rest of their preprocessing is theirs, and told in `contract.preprocessing`. Exported ones
        are held to the preprocessing of their run.

        Args:
            dataset: `summary` of a volume store, with `grid` and `preprocessing`.

        Raises:
            InputError: another grid or another preprocessing.
        """
        if self.contract is not None:
            self.contract.check(Grid.named(dataset["grid"]), self.path)
        if not self.record:
            return

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
        try:
            encoder = build_module(self.encoder, classes_only=self.contract is not None)
        except (ImportError, AttributeError, TypeError, InputError) as error:
            raise InputError(
                f"weights={self.path}: their encoder {self.encoder.get('_target_')} cannot be built ({error}); install "
                f"the version of the code that {'run.yaml' if self.contract is None else CONFIG} names"
            ) from error
        self._load_into(encoder)
        if self.carried:
            encoder.intensity = self.intensity  # type: ignore[assignment]
        return encoder

    def save(self, folder: Path, seen: Seen | None = None) -> None:
        """Write weights with a card as a folder that `load` reads.

        Args:
            folder: new, or empty.
            seen: what it is to say about whom they were trained on; by default all that is known.

        Raises:
            InputError: there is something in it, it cannot be written, or these are a run's weights.
        """
        if self.contract is None:
            raise InputError(f"{self.path} is a run, which export writes as a folder")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already; choose a new folder, or empty it")
        (seen or self.seen).write(folder)
        with appearing(folder / TENSORS) as file:
            # Copies, since safetensors refuses tensors that share memory, as a checkpoint's may; by way of bytes, since
            # the files that it writes itself are readable by their owner alone.
            form = torch.contiguous_format
            file.write_bytes(save({key: value.clone(memory_format=form) for key, value in self.state.items()}))
        with appearing(folder / CONFIG) as file:  # last: with it, the folder is whole
            file.write_text(json.dumps(self.card, indent=1, ensure_ascii=False), encoding="utf-8")

    def _load_into(self, encoder: nn.Module) -> None:
        """Every tensor of both sides; a mismatch names the first layer and both shapes."""
        state = with_all_names(encoder, self.state)
        ours = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
        different = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        if different:
            name = different[0]
            remedy = (
                "its run.yaml or its checkpoint was changed: delete the run and train it again"
                if self.contract is None
                else f"its {CONFIG} or its {TENSORS} was changed: {AGAIN}"
            )
            raise InputError(
                f"weights={self.path} do not fit the encoder in {len(different)} tensors, first {name}: shape "
                f"{theirs.get(name, 'missing')} in the checkpoint, {ours.get(name, 'missing')} in the encoder; {remedy}"
            )
        encoder.load_state_dict(state)


def _name(card: Mapping[str, Any]) -> str:
    """By content, so that one file is one name wherever it lies; the encoder's options count."""
    content = json.dumps([card["source"]["sha256"], card["encoder"]], sort_keys=True)
    return f"{card['kind']}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
