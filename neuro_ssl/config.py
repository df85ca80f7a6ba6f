"""The typed configuration of every entry point, and the checks that catch a mistake before hours are spent.

Top-level keys are typed by the dataclasses of `schemas`. Components
(`_target_` nodes) are typed by their own constructors: `check_components` binds each node to the signature it
will be called with, so that a misspelt or mistyped parameter is refused in files, on the command line and with `+`.
"""

import difflib
import inspect
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuro_ssl.errors import InputError
from neuro_ssl.schemas import TrainConfig

# Arguments of trainers that are not for users to choose: of one that trains, and of one that only predicts.
TRAINING = {
    "enable_checkpointing": False,  # ours survive a kill
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,  # its numbers would enter the history
    "use_distributed_sampler": False,  # ours shares out global batches; Lightning's would pad the last one
}
PREDICTING = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,  # ours count scans
    "use_distributed_sampler": False,  # Lightning's would pad the last batch
}


def plain(node: Any) -> Any:
    """A configuration node as plain Python containers, interpolations resolved.

    Raises:
        InputError: a mandatory key (`???`) is still without a value.
    """
    if not isinstance(node, DictConfig | ListConfig):
        return node
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).split("\n")[0]
        raise InputError(f"{error.full_key or 'configuration'}: {reason}") from error


def check_top_level(cfg: DictConfig, known: list[str]) -> None:
    """Refuse what Hydra lets past the schema: `+key=value` of an unknown key, and `~key`.

    Raises:
        InputError: naming the key.
    """
    for key in map(str, cfg):
        if key not in known:
            raise InputError(f"{key} is not a key of this command; {suggestion(key, known)}")
    for key in known:
        if key not in cfg:
            raise InputError(f"{key} is needed: leave out ~{key}")


def build(node: dict[str, Any] | None, **supplied: Any) -> Any:
    """The component that a plain node describes; None for none.

    (Hydra's `instantiate` alone would turn supplied arguments that are dataclasses into configuration.)
    """
    return None if node is None else hydra.utils.instantiate(node, _partial_=True, _convert_="all")(**supplied)


def choices() -> dict[str, str]:
    """Which option of each configuration group was chosen, such as {"task": "sex"}."""
    return dict(HydraConfig.get().runtime.choices)


def overridden(key: str) -> bool:
    """Whether the command line sets this key, its group, or anything below it."""
    given = [override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task]
    return any(name == key or name.startswith(f"{key}.") for name in given)


def compose(name: str, options: Sequence[str]) -> DictConfig:
    """The configuration that another command would have with these options; `plain` makes a node of it containers."""
    return hydra.compose(config_name=name, overrides=list(options))


def check_components(cfg: Any, supplied: Mapping[str, Iterable[str]], optional: Iterable[str] = ()) -> None:
    """Bind every component to its constructor: unknown, missing or mistyped parameters are refused.

    Args:
        cfg: the composed configuration.
        supplied: for each top-level component to check, the parameters that the code passes when it builds it. A
            component may be a group of named components (as `logger`), beside values that the code passes to each.
        optional: components that may be null.

    Raises:
        InputError: naming the key, the constructor and, for a likely typo, the parameter that was meant.
    """
    for key, names in supplied.items():
        node = plain(cfg[key])
        if isinstance(node, dict) and "_target_" not in node:
            for name, member in node.items():
                if name not in names:
                    _check_component(f"{key}.{name}", member, frozenset(names))
        elif node is not None or key not in optional:
            _check_component(key, node, frozenset(names))


def _check_component(key: str, node: Any, supplied: frozenset[str]) -> None:
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str):
        raise InputError(f"{key}: expected a component with a _target_, got {'null' if node is None else repr(node)}")
    try:
        component = hydra.utils.get_object(target)
    except Exception as error:
        raise InputError(f"{key}._target_: cannot import {target}: {error}") from error
    parameters = inspect.signature(component).parameters
    hints = typing.get_type_hints(component.__init__ if inspect.isclass(component) else component)
    open_to = [name for name in parameters if name not in supplied]
    given = {name: value for name, value in node.items() if not (name.startswith("_") and name.endswith("_"))}
    for name, value in given.items():
        if name not in open_to:
            raise InputError(f"{key}.{name} is not a parameter of {target}; {suggestion(name, open_to)}")
        if name in hints and not (isinstance(value, dict) and "_target_" in value):  # else checked by what it builds
            _check_value(f"{key}.{name}", value, hints[name])
    missing = [n for n in open_to if parameters[n].default is inspect.Parameter.empty and n not in given]
    if missing:
        raise InputError(f"{key}.{missing[0]} is missing: {target} needs it")


def suggestion(name: str, known: list[str]) -> str:
    """What may have been meant by a name that is none of the known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"it takes {', '.join(known) or 'none'}"


def _check_value(key: str, value: Any, hint: Any) -> None:
    import pydantic

    adapter = pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    try:  # by JSON's strict rules: "2" is no number and 1 no boolean, but a list may become a tuple
        adapter.validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        raise InputError(f"{key}={value!r}: {error.errors()[0]['msg']}") from error


def check_train(cfg: TrainConfig, pretraining: bool) -> None:
    """Refuse what doesn't go together.

    Args:
        cfg: the composed configuration.
        pretraining: whether the task is one of pretraining.

    Raises:
        InputError: naming the keys.
    """
    if cfg.needs_weights and not cfg.weights:
        raise InputError("weights: this recipe starts from a pretrained encoder, give a pretraining run's directory")
    if cfg.frozen and cfg.dataset.get("transform") is not None:
        raise InputError("a frozen encoder's features are computed once: leave dataset.transform out")
    if isinstance(cfg.micro_batch_size, str) and cfg.micro_batch_size != "auto":
        raise InputError(
            f"micro_batch_size must be a number of scans, auto, or null for the whole share; got {cfg.micro_batch_size}"
        )
    if cfg.micro_batch_size and not pretraining:
        raise InputError(
            "micro_batch_size is for pretraining, whose loss needs the whole batch at once: take a smaller batch_size "
            "and +trainer.accumulate_grad_batches"
        )
    if cfg.logger.images not in ("local", "upload"):
        raise InputError(
            f"logger.images={cfg.logger.images}: local keeps pictures of scans on this machine, upload "
            "gives them to W&B"
        )
    if cfg.logger.ids not in ("local", "hashed"):
        raise InputError(
            f"logger.ids={cfg.logger.ids}: local keeps predictions on this machine, hashed gives them to W&B by keyed "
            "hashes of subjects and scans"
        )
    if cfg.early_stopping_patience is not None and pretraining:
        raise InputError(
            "early_stopping_patience is for downstream tasks: of pretraining no validation score says which epoch will "
            "serve best; set it to null, and trainer.max_epochs to how long it is to last"
        )
    if cfg.objective is not None and not pretraining:
        raise InputError(
            f"objective={cfg.objective} is for pretraining: a downstream task is searched by the validation score that "
            "chooses its epoch; set it to null"
        )
