"""Predictions of a model under a protocol: one table, from which every score is computed.

Columns: what is known of the scan (`scan_id`, `subject_id`, which is the person's `person_id` if there is one, …), and

    task, test_set, model, role, protocol
    fraction, n_train       share of the labelled training persons, and how many scans that were
    seed, label_seed        of the model's random numbers, and of which persons the share holds
    repeat, fold            of a cross-validation; fold is the site's number where sites are left out, else missing
    replicate               seed, label_seed and repeat together: the score of a model is the mean over them
    split                   val or test; validation scans choose thresholds and epochs, and correct an age gap
    target, prediction      1 is the positive class, and the prediction its probability
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

import neuro_ssl
from neuro_ssl.data.splits import persons
from neuro_ssl.data.targets import Target, read_labels
from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.features import Features, read_features
from neuro_ssl.evaluating.folds import Fold
from neuro_ssl.evaluating.linear_probe import linear_probe
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.stores import grid_option
from neuro_ssl.evaluating.targets import Task
from neuro_ssl.evaluating.training import option, run_command, trained_run
from neuro_ssl.evaluation.baselines import STATISTICS, store_statistics
from neuro_ssl.evaluation.probes import PROBES, Probe, fit_probe
from neuro_ssl.tasks.head import head_of

Array = npt.NDArray[np.float64]
ABOUT = ("scan_id", "subject_id", "session_id", "age_years", "sex", "diagnosis", "site", "scanner")
FROZEN = (*get_args(Probe), "linear_probe")
PROTOCOLS = (*FROZEN, "finetune")
TRAINED = ("finetune", "from_scratch")
CHOSEN_BY_AUROC = ("linear_probe", *TRAINED)  # of a classification, the epoch: validation needs both classes


@dataclass(frozen=True)
class Cell:
    """One line of the table: a model under a protocol, on one task and test set, of all its seeds and folds."""

    task: Task
    test_set: str
    model: Model
    protocol: str

    @property
    def name(self) -> str:
        """In messages and names of files."""
        return f"{self.task.target.name}, {self.test_set}, {self.model.name}, {self.protocol}"


def protocols_of(model: Model, target: Target, protocols: Sequence[str]) -> list[str]:
    """Which of the protocols a model takes part in."""
    if model.role == "constant":
        return ["constant"]
    if model.role == "from_scratch":
        return ["from_scratch"]
    of_kind = [name for name in protocols if name not in PROBES or target.kind in PROBES[name]]
    return of_kind if model.role == "pretrained" else [name for name in of_kind if name in FROZEN]


@dataclass(frozen=True)
class Settings:
    """How predictions are made.

    Attributes:
        fractions: of the labelled training persons, for probes.
        train_fractions: the same for trainings.
        label_seeds: which of them, for every fraction below 1.
        seeds: of trainings, and of whatever a probe draws.
        train: options of every training.
        linear_probe: how a linear probe is trained: the arguments of that name.
        recipes: of each protocol that is a training, what its recipe comes to; a part of what decides predictions.
    """

    fractions: tuple[float, ...]
    train_fractions: tuple[float, ...]
    label_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    train: tuple[str, ...]
    linear_probe: Mapping[str, Any]
    recipes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {
            "label_fractions": self.fractions,
            "train_fractions": self.train_fractions,
            "label_seeds": self.label_seeds,
            "seeds": self.seeds,
        }
        for name, values in named.items():
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} must name each once, and at least one; got {list(values)}")
        for name in ("label_fractions", "train_fractions"):
            if wrong := [fraction for fraction in named[name] if not 0 < fraction <= 1]:
                raise InputError(f"{name} must be above 0 and at most 1, got {wrong[0]:g}")


class Predictor:
    """Makes the tables of cells, of one cohort and the others that models are tested on.

    Args:
        scans: the manifest of each cohort, the first being the one that models are fitted to.
        features: of all encoders, extracted.
        folds: of each task and test set.
        settings: how.
        data: options of the commands `train` and `embed` that name this cohort.
    """

    def __init__(
        self,
        scans: Mapping[str, pd.DataFrame],
        features: Features,
        folds: Mapping[tuple[str, str], Sequence[Fold]],
        settings: Settings,
        data: Sequence[str],
    ) -> None:
        self.scans, self.features, self.folds, self.settings, self.data = scans, features, folds, settings, data
        self.cohort = next(iter(scans))
        self._statistics: dict[str, Array] = {}
        self._runs: dict[tuple[str, ...], Path] = {}

    def identity(self, cell: Cell) -> str:
        """Hash of what decides a cell's predictions."""
        model = cell.model
        cohorts = [name for name in self.scans if name in (self.cohort, cell.test_set)]
        content = {
            "task": [cell.task.target.model_dump(exclude={"reference", "unit"}), cell.task.options, cell.task.settings],
            "test_set": cell.test_set,
            "model": [model.role, model.options, [self.features.hash(weights) for weights in model.weights]],
            "protocol": cell.protocol,
            "stores": {name: model.volumes[name].identity for name in cohorts},
            "scans": [hashlib.sha256("\n".join(self.scans[name]["scan_id"]).encode()).hexdigest() for name in cohorts],
            "folds": [[*fold.options, *map(str, fold.split.tolist())] for fold in self._folds(cell)],
            "settings": asdict(self.settings) | {"recipes": self.settings.recipes.get(cell.protocol)},
            "transform": [given for given in self.data if given.startswith("dataset.transform")],
            "precision": self.features.precision if cell.protocol in FROZEN else None,
            "version": neuro_ssl.__version__,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def predict(self, cell: Cell) -> pd.DataFrame:
        """The table of one cell.

        Raises:
            InputError: a training failed.
        """
        return pd.concat(list(self._parts(cell)), ignore_index=True).assign(
            task=cell.task.target.name,
            test_set=cell.test_set,
            model=cell.model.name,
            role=cell.model.role,
            protocol=cell.protocol,
        )

    def _folds(self, cell: Cell) -> Sequence[Fold]:
        return self.folds[cell.task.target.name, cell.test_set]

    def _parts(self, cell: Cell) -> Iterator[pd.DataFrame]:
        for seed, model in self._seeds(cell):
            space = self.space(model) if cell.protocol in FROZEN else {}
            fractions = self.settings.train_fractions if cell.protocol in TRAINED else self.settings.fractions
            for fold in self._folds(cell):
                for fraction in fractions:
                    for label_seed in self.settings.label_seeds if fraction < 1 else (0,):
                        own = self.scans[self.cohort]
                        split = fold.with_fraction(fraction, cell.task.target, own, label_seed)
                        labelled = self._labelled(cell.task.target, fold, split)
                        if cell.protocol in FROZEN or cell.protocol == "constant":
                            table = self._probe(cell, labelled, space, seed)
                        else:
                            options = (*fold.options, f"label_fraction={fraction}", f"label_seed={label_seed}")
                            table = self._trained(cell, labelled, fold, (*options, f"seed={seed}"))
                        yield table[
                            [name for name in (*ABOUT, "split", "target", "prediction") if name in table]
                        ].assign(
                            fraction=fraction,
                            n_train=int((labelled["split"] == "train").sum()),
                            seed=seed,
                            label_seed=label_seed,
                            repeat=fold.repeat,
                            fold=pd.array([fold.number] * len(table), "Int64"),
                            replicate=f"{seed}/{label_seed}/{fold.repeat}",
                        )

    def _seeds(self, cell: Cell) -> list[tuple[int, Model]]:
        """Seeds, each with the model at it: untrained encoders have their own, others those of the settings."""
        model = cell.model
        if model.role == "untrained":
            return [(seed, replace(model, weights=(weights,))) for seed, weights in enumerate(model.weights)]
        if cell.protocol in CHOSEN_BY_AUROC:
            return [(seed, model) for seed in self.settings.seeds]
        return [(0, model)]  # the same for every seed

    def _labelled(self, target: Target, fold: Fold, split: pd.Series) -> pd.DataFrame:
        """The scans that take part, each with its cohort, row there, split and target."""
        parts = []
        for name, rows in self.scans.items():
            if name != self.cohort and name != fold.test_set:
                continue
            target_of = read_labels(rows, target, f"cohort {name}")
            part = rows.assign(cohort=name, row=np.arange(len(rows)), target=target_of, subject_id=persons(rows))
            if name == self.cohort:
                part["split"] = split.to_numpy()
                if fold.other_cohort:
                    part["split"] = part["split"].where(part["split"] != "test")
            else:
                part["split"] = "test"
            parts.append(part[part["target"].notna() & part["split"].notna()])
        return pd.concat(parts, ignore_index=True)

    def space(self, model: Model) -> Mapping[str, Array]:
        """The features of each cohort's scans, of a model with one seed."""
        if model.role == "image_statistics":
            for name, volumes in model.volumes.items():
                if name not in self._statistics:
                    found = store_statistics(volumes).set_index("scan_id").loc[self.scans[name]["scan_id"]]
                    self._statistics[name] = found[list(STATISTICS)].to_numpy(np.float64)
            return self._statistics
        (weights,) = model.weights
        return {name: self.features.read(weights, model.volumes[name], rows) for name, rows in self.scans.items()}

    def _probe(self, cell: Cell, labelled: pd.DataFrame, space: Mapping[str, Array], seed: int) -> pd.DataFrame:
        target, train = cell.task.target, labelled["split"] == "train"
        values = labelled["target"].to_numpy(float)
        if cell.protocol == "constant":  # the training scans' mean, or share of the positive class
            return labelled[~train].assign(prediction=values[train].mean())
        found = np.stack([space[name][row] for name, row in zip(labelled["cohort"], labelled["row"], strict=True)])
        if cell.protocol == "linear_probe":
            if cell.model.role == "image_statistics":  # ml and intensities: no one scale of features fits both
                found = (found - found[train].mean(axis=0)) / found[train].std(axis=0).clip(min=1e-12)
            rows = (train.to_numpy(), labelled["split"].eq("val").to_numpy())
            recipe = self.settings.linear_probe
            predict: Any = linear_probe(cell.task.settings, found, values, *rows, seed=seed, **recipe)
        else:
            subject = labelled["subject_id"][train]
            probe: Any = cell.protocol
            predict = fit_probe(probe, target.kind, found[train], values[train], subject, seed=seed)
        return labelled[~train].assign(prediction=predict(found[~train]))

    def _trained(self, cell: Cell, labelled: pd.DataFrame, fold: Fold, options: Sequence[str]) -> pd.DataFrame:
        model = cell.model
        start = model.options or (option("weights", model.weights[0].path),)
        command = (f"+experiment={cell.protocol}", *cell.task.options, *start, *self.data, *options)
        command += (grid_option(model.volumes[self.cohort]), *self.settings.train, "open_test=true")
        if fold.other_cohort and command not in self._runs:  # this cohort's own test split isn't asked for
            command = (*command[:-1], "open_test=false")
        if command not in self._runs:  # one training serves all test sets
            self._runs[command] = trained_run(command)
        run = self._runs[command]
        made = pd.read_parquet(run / "predictions.parquet").set_index("scan_id")
        if made["task"].nunique() > 1:
            made = made[made["task"] == cell.task.target.name]
        own = labelled[labelled["cohort"].eq(self.cohort) & labelled["split"].ne("train")]
        if made["split"].reindex(own["scan_id"]).tolist() != own["split"].tolist():
            raise InputError(
                f"{run} did not hold out the scans that are evaluated here; do the stores hold the same scans? "
                "Preprocess again, or list what is not in all of them in exclude.csv"
            )
        own = own.assign(prediction=made.loc[own["scan_id"], "prediction"].to_numpy())
        if not fold.other_cohort:
            return own
        others = labelled[labelled["cohort"] == fold.test_set]
        return pd.concat([own, others.assign(prediction=self._elsewhere(cell, run, fold.test_set, others))])

    def _elsewhere(self, cell: Cell, run: Path, cohort: str, scans: pd.DataFrame) -> Array:
        """What a trained run predicts of another cohort."""
        volumes = cell.model.volumes[cohort]
        file = self.features.folder / cohort / f"{run.name}-{volumes.identity['manifest_hash'][:8]}.parquet"
        where = [given for given in self.data if not given.startswith(("dataset", "runs_dir", "allow_leakage"))]
        stores = option("dataset.stores_dir", volumes.path.parent.parent)
        dataset = ("dataset=csv", option("dataset.cohort", cohort), stores, grid_option(volumes), *where)
        run_command("embed", [option("weights", run), *dataset, option("output", file)])
        weight, intercept = head_of(run, cell.task.place)
        output = read_features(file, scans) @ weight + intercept
        return expit(output) if cell.task.target.classes else output
