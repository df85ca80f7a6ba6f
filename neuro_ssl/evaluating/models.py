"""The models that are compared, each with the volumes that its own input contract asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.leakage import Leakage
from neuro_ssl.data.targets import read_targets
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.encoders import Encoder
from neuro_ssl.errors import InputError

# Of a scan, what must be the same on every grid.
DESCRIBING = ("subject_id", "person_id", "split", "session_id", "age_years", "sex", "diagnosis", "site", "scanner")

# In the order of the tables. What any pretraining has to beat comes first.
Role = Literal["constant", "image_statistics", "untrained", "from_scratch", "pretrained"]
ROLES: dict[Role, str] = {
    "constant": "none: mean or majority",
    "image_statistics": "brain volume + intensity quantiles",
    "untrained": "untrained",
    "from_scratch": "from scratch",
    "pretrained": "pretrained",
}


@dataclass(frozen=True)
class Model:
    """A line of the tables.

    Attributes:
        name: in the tables.
        role: what kind of model it is.
        weights: one a seed for untrained encoders, one for a pretrained one; empty for others.
        volumes: of each cohort, prepared as the model expects; of this cohort under its own name.
        untrained: name of the model that has the same encoder before training.
        options: for encoders trained from scratch, the options that choose one.
        leakage: of each test set, whether the weights have seen it.
    """

    name: str
    role: Role
    volumes: Mapping[str, Volumes]
    weights: tuple[Weights, ...] = ()
    untrained: str | None = None
    options: tuple[str, ...] = ()
    leakage: dict[str, Leakage] = field(default_factory=dict)

    @property
    def learnt_from(self) -> list[str]:
        """Labels that the encoder was trained with: by y-aware contrastive learning, or for a task."""
        records = [weights.record for weights in self.weights if weights.trained]
        names = {name for record in records for name in record.get("covariates") or ()}
        for record in records:
            if record.get("stage") == "downstream" and (task := record.get("config", {}).get("task")):
                names |= {target.target for target in read_targets(record["task"], task)}
        return sorted(names)


def grid_of(weights: Weights, grid: str) -> str:
    """The grid that weights expect: a run's, others' own, or for those that take any this one."""
    if weights.contract is not None and not weights.record:
        return weights.contract.grid if weights.contract.shape or weights.contract.spacing_mm else grid
    return str(weights.record["dataset"]["grid"]) if weights.record else grid


def collect(
    encoders: Mapping[str, Weights],
    default_encoder: tuple[str, dict[str, Any]],
    n_untrained: int,
    from_scratch: Mapping[str, tuple[str, ...]],
    main: Mapping[str, Volumes],
    open_volumes: Callable[[str], Mapping[str, Volumes]],
) -> list[Model]:
    """All models, those that any pretraining has to beat among them.

    Args:
        encoders: pretrained weights by name.
        default_encoder: name and configuration of the one to show untrained where there are no others.
        n_untrained: seeds of each untrained encoder.
        from_scratch: names of encoders to train from scratch, with the options that choose each.
        main: volumes of each cohort on the evaluation's own grid.
        open_volumes: grid → volumes of each cohort.

    Raises:
        InputError: volumes that are missing or prepared in another way, for all encoders at once; or a name twice.
    """
    models = [Model(ROLES["constant"], "constant", main), Model(ROLES["image_statistics"], "image_statistics", main)]
    own_grid = next(iter(main.values())).grid.name
    pretrained: list[Model] = []
    untrained: dict[str, Model] = {}
    problems: list[str] = []
    for name, weights in encoders.items():
        try:
            grid = grid_of(weights, own_grid)
            volumes = main if grid == own_grid else open_volumes(grid)
            for one in volumes.values():
                weights.check_data(one.summary)
            _check_grid(weights, volumes)
        except InputError as error:
            problems.append(f"{name}: {error}")
            continue
        twin = _twin(untrained, weights, volumes, n_untrained)
        pretrained.append(Model(name, "pretrained", volumes, (weights,), twin))
    if problems:
        raise InputError("encoders that these scans do not serve:\n  " + "\n  ".join(problems))
    if not encoders and n_untrained:
        name, node = default_encoder
        seeds = tuple(Weights.untrained(node, seed) for seed in range(n_untrained))
        _check_grid(seeds[0], main)
        untrained[name] = Model(f"untrained {name}", "untrained", main, seeds)
    scratch = [
        Model(f"from scratch, {name}", "from_scratch", main, (), None, options)
        for name, options in from_scratch.items()
    ]
    models += [*untrained.values(), *scratch, *pretrained]
    names = [model.name for model in models]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"encoders: {', '.join(sorted(twice))} is the name of another model; choose another")
    return models


def _twin(known: dict[str, Model], weights: Weights, volumes: Mapping[str, Volumes], n_seeds: int) -> str | None:
    """The name of the model of the same encoder before training, which is added to the known ones."""
    if not n_seeds:
        return None
    for model in known.values():
        same = model.weights[0]
        if (same.encoder, same.intensity) == (weights.encoder, weights.intensity) and model.volumes is volumes:
            return model.name
    kind = weights.encoder_name
    taken = sum(model.name.startswith(f"untrained {kind}") for model in known.values())
    name = f"untrained {kind}{f' ({taken + 1})' if taken else ''}"
    seeds = tuple(Weights.untrained(weights.encoder, seed, weights) for seed in range(n_seeds))
    known[name] = Model(name, "untrained", volumes, seeds)
    return name


def _check_grid(weights: Weights, volumes: Mapping[str, Volumes]) -> None:
    encoder = weights.build_encoder()
    if isinstance(encoder, Encoder):
        for one in volumes.values():
            encoder.check_grid(one.grid.shape)


def common_scans(models: Sequence[Model], cohort: str, targets: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """The scans of a cohort that every model can be given, from the first model's manifest, and those left out.

    Args:
        models: each with its volumes.
        cohort: whose scans.
        targets: columns of labels.

    Raises:
        InputError: two stores divide or label them differently, or share none.
    """
    first = models[0].volumes[cohort]
    scans = first.manifest.reset_index(drop=True)
    stores = list({id(model.volumes[cohort]): model.volumes[cohort] for model in models}.values())
    keep = set(scans["scan_id"]).intersection(*(set(store.manifest["scan_id"]) for store in stores))
    out = sorted(set(scans["scan_id"]).union(*(set(store.manifest["scan_id"]) for store in stores)) - keep)
    scans = scans[scans["scan_id"].isin(keep)].reset_index(drop=True)
    if scans.empty:
        raise InputError(f"the stores {', '.join(str(store.path) for store in stores)} have no scan in common")
    local = [name for name in scans if name in (*DESCRIBING, *targets)]
    for store in stores[1:]:
        other = store.manifest.set_index("scan_id").loc[scans["scan_id"]].reset_index()
        for name in local:
            if name not in other or not other[name].equals(scans[name]):
                raise InputError(
                    f"{first.path} and {store.path} differ in {name} of the same scans: preprocess both from the same "
                    "dataset, with the same splits"
                )
    return scans, out
