"""A run's weights as a folder for others.

What leaves is chosen key by key: of the run's record neither paths nor the command, and hashes of subjects only if they
are asked for. They are unkeyed, so that whoever knows a cohort's ids can tell who is in it, which many data-use
agreements forbid to publish.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuro_ssl.checkpoint import FORMAT, Weights
from neuro_ssl.contract import Contract
from neuro_ssl.data.leakage import Seen
from neuro_ssl.errors import InputError
from neuro_ssl.exporting.graphs import check_onnx, write_onnx, write_torch_export
from neuro_ssl.exporting.model_card import ADVICE, LICENCE_MISSING, model_card
from neuro_ssl.files import appearing
from neuro_ssl.grid import Grid
from neuro_ssl.modules import first_names
from neuro_ssl.reporting.runs.reading import DownstreamRun, read_runs

OURS = "neuro_ssl.encoders."
CITATION = (
    "the neuro_ssl developers, neuro_ssl; Kaczmarek, Szeto, Nichyporuk, Arbel, ICCV Workshops 2025, doi "
    "10.1109/ICCVW69036.2025.00141"
)
# Of `run.yaml` and its `dataset`; no place on this machine is among them.
SHARED = (
    "stage",
    "task",
    "seed",
    "epochs",
    "batch_size",
    "encoder",
    "covariates",
    "started",
    "versions",
    "commit",
    "dirty",
)
SHARED_OF_DATASET = ("cohort", "simulated", "grid", "preprocessing", "preprocessing_hash", "n_scans", "n_subjects")


@dataclass(frozen=True)
class Choices:
    """What the user decides about an export.

    Attributes:
        licence: of the weights, as the Hugging Face hub names it, such as `cc-by-4.0`; None leaves a gap in the card.
        runs: a folder of runs, of which those that started from the weights give the card their scores.
        subject_hashes: put the hashes of the training subjects and images in, so that others' leakage check knows them.
        onnx: write `model.onnx`.
        torch_export: write `model.pt2`.
    """

    licence: str | None = None
    runs: Path | None = None
    subject_hashes: bool = False
    onnx: bool = False
    torch_export: bool = False


def export(run: str, folder: Path, choices: Choices) -> Weights:
    """Write a run's weights as a folder, whole or not at all.

    Args:
        run: a finished run's directory.
        folder: new, or empty.
        choices: see there.

    Returns:
        What `Weights.load(folder)` reads.

    Raises:
        InputError: these are no run's weights, the folder is not empty or cannot be written, the encoder is none of
            this package, a package is missing, no run started from them, or a graph gives other features.
    """
    if choices.onnx:
        check_onnx()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already; choose a new folder, or empty it")
    weights = shareable(Weights.load(run), choices.licence)
    scores = scored(weights, choices.runs)
    seen = weights.seen if choices.subject_hashes else Seen(complete=False, cohorts=weights.seen.cohorts)
    encoder = weights.build_encoder().eval()
    first = first_names(encoder)
    weights = replace(weights, state={name: weights.state[name] for name in weights.state if first[name] == name})
    shape = Grid.named(weights.record["dataset"]["grid"]).shape
    graphs = {"model.onnx": choices.onnx, "model.pt2": choices.torch_export}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary) / folder.name
            weights.save(made, seen)
            for name, write in (("model.onnx", write_onnx), ("model.pt2", write_torch_export)):
                if graphs[name]:
                    write(encoder, shape, made / name)
            with appearing(made / "README.md") as file:
                file.write_text(model_card(weights, seen, scores, choices.licence, graphs), encoding="utf-8")
            made.replace(folder)
    except OSError as error:
        raise InputError(f"cannot write {folder} ({error.strerror or error}); choose another place") from error
    return Weights.load(str(folder))


def shareable(weights: Weights, licence: str | None) -> Weights:
    """The same weights with a card, and of their record what is for others.

    Raises:
        InputError: these are no run's, or their encoder is none of this package.
    """
    if weights.contract is not None:
        raise InputError(f"{weights.path} is no run of this package but a folder or file already; export takes runs")
    if not str(weights.encoder["_target_"]).startswith(OURS):
        raise InputError(
            f"{weights.path}: its encoder {weights.encoder['_target_']} is none of {OURS.rstrip('.')}, and a folder "
            "from elsewhere may call nothing else: add it there, or share the run directory with your code"
        )
    record, grid, origin = weights.record, Grid.named(weights.record["dataset"]["grid"]), weights.carried
    dataset = {key: record["dataset"][key] for key in SHARED_OF_DATASET if key in record["dataset"]}
    run = {key: record[key] for key in SHARED if key in record} | {"name": weights.name, "dataset": dataset}
    if record.get("weights"):
        run["started_from"] = record["weights"]["name"]
    bound = f"; started from weights of the licence {origin['licence']}" if origin else ""
    contract = Contract(grid.name, grid.shape, grid.spacing_mm, weights.intensity, _in_words(dataset["preprocessing"]))
    card = {
        "format": FORMAT,
        "kind": record["encoder"]["name"],
        "title": f"{record['encoder']['name']}, {record['task']} on {cohort(record)}",
        "encoder": weights.encoder,
        "input": contract.as_json(),
        "cohorts": sorted(weights.seen.cohorts),
        "licence": f"{licence or LICENCE_MISSING}{bound}",
        "advice": origin.get("advice", ADVICE),
        "citation": f"{origin['citation']}; {CITATION}" if origin else CITATION,
        "run": run,
    }
    return replace(weights, record=run, card=card, contract=contract)


def cohort(record: Mapping[str, Any]) -> str:
    """The cohort's name, and whether its images are simulated."""
    dataset = record["dataset"]
    return f"{dataset['cohort']}{' (SIMULATED images, no real brains)' if dataset['simulated'] else ''}"


def scored(weights: Weights, runs: Path | None) -> list[DownstreamRun]:
    """The downstream runs below a folder that started from these weights.

    Raises:
        InputError: there is none.
    """
    if runs is None:
        return []
    found = [run for run in read_runs(runs).downstream if run.info.weights and run.info.weights.name == weights.name]
    if not found:
        raise InputError(f"--runs {runs}: no finished downstream run there started from {weights.name}")
    return found


def _in_words(settings: Mapping[str, Any]) -> str:
    return f"neuro_ssl: {', '.join(f'{key} {value}' for key, value in settings.items())}"
