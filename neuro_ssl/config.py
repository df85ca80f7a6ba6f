"""The typed configuration of every entry point, and the checks that catch a mistake before hours are spent.

Top-level keys are typed by the dataclasses below, registered with Hydra under `<name>_schema`. Components
(`_target_` nodes) are typed by their own constructors: `check_components` binds each node to the signature it
will be called with, so that a misspelt or mistyped parameter is refused in files, on the command line and with `+`.
"""

import difflib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuro_ssl.errors import InputError

_PACKAGED = Path(__file__).parent / "conf"  # put there by the wheel; an editable install reads the source tree
CONF_DIR = str(_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "conf")


@dataclass
class SimulateConfig:
    """`python -m neuro_ssl.simulate`; the keys are the arguments of `neuro_ssl.simulation.simulate_cohort`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    output: str = MISSING
    n_subjects: int = MISSING
    seed: int = MISSING
    spacing_mm: float = MISSING
    n_sites: int = MISSING
    follow_up_fraction: float = MISSING
    alzheimers_fraction: float = MISSING
    stroke_fraction: float = MISSING
    age_range: list[float] = MISSING
    n_jobs: int = MISSING
    overwrite: bool = MISSING


@dataclass
class PreprocessConfig:
    """`python -m neuro_ssl.preprocess`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    grid: str = MISSING
    brain_extraction: str = MISSING
    splits: dict[str, float] = MISSING
    stratify: list[str] = MISSING
    seed: int = MISSING
    n_jobs: int = MISSING
    dataset: Any = MISSING


@dataclass
class TrainConfig:
    """`python -m neuro_ssl.train`."""

    debug: bool = MISSING
    name: str = MISSING
    seed: int = MISSING
    data_dir: str = MISSING
    runs_dir: str = MISSING
    grid: str = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING
    weights: str | None = MISSING
    frozen: bool = MISSING
    dataset: Any = MISSING
    encoder: Any = MISSING
    views: Any = MISSING
    task: Any = MISSING
    optimizer: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING


@dataclass
class ReportConfig:
    """`python -m neuro_ssl.report`."""

    debug: bool = MISSING
    data_dir: str = MISSING
    runs_dir: str = MISSING
    runs: list[str] | None = MISSING
    output: str = MISSING


for _name, _schema in {
    "simulate": SimulateConfig,
    "preprocess": PreprocessConfig,
    "train": TrainConfig,
    "report": ReportConfig,
}.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=_schema)


def entry_point(name: str) -> Callable[[Callable[[Any], None]], Callable[[], None]]:
    """Make `main(cfg)` a command configured by `conf/<name>.yaml`.

    An `InputError` becomes one line on stderr and exit status 1 (with `debug=true`: the traceback); any other
    exception is a defect of ours and keeps its traceback.
    """

    def decorate(main: Callable[[Any], None]) -> Callable[[], None]:
        def run(cfg: DictConfig) -> None:
            try:
                main(cfg)
            except (InputError, OmegaConfBaseException) as error:
                if cfg.debug:
                    raise
                print(f"error: {error}", file=sys.stderr)
                raise SystemExit(1) from None

        # Hydra derives the task's name from the function's module; keep main's identity.
        run.__module__, run.__name__, run.__doc__ = main.__module__, main.__name__, main.__doc__
        return typing.cast("Callable[[], None]", hydra.main(version_base="1.3", config_path=CONF_DIR, config_name=name)(run))

    return decorate


def plain(node: Any) -> Any:
    """A configuration node as plain Python containers, interpolations resolved.

    Raises:
        InputError: a mandatory key (`???`) is still without a value.
    """
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key or 'configuration'}: {error.msg or error}") from error


def check_components(cfg: DictConfig, supplied: Mapping[str, Iterable[str]]) -> None:
    """Bind every component to its constructor: unknown, missing or mistyped parameters are refused.

    Args:
        cfg: the composed configuration.
        supplied: for each top-level component to check, the parameters that the code passes when it builds it.

    Raises:
        InputError: naming the key, the constructor and, for a likely typo, the parameter that was meant.
    """
    for key, names in supplied.items():
        node = plain(cfg[key])
        if node is not None:
            _check_node(key, node, frozenset(names))


def _check_node(key: str, node: dict[str, Any], supplied: frozenset[str]) -> None:
    import pydantic

    target = node.get("_target_")
    if not isinstance(target, str):
        raise InputError(f"{key}: expected a component with a _target_, got {node!r}")
    try:
        component = hydra.utils.get_object(target)
    except Exception as error:
        raise InputError(f"{key}._target_: cannot import {target}: {error}") from error
    parameters = inspect.signature(component).parameters
    hints = typing.get_type_hints(component.__init__ if inspect.isclass(component) else component)
    for name, value in node.items():
        if name.startswith("_") and name.endswith("_"):  # Hydra's own: _target_, _partial_, …
            continue
        if name not in parameters:
            close = difflib.get_close_matches(name, parameters, n=1)
            meant = f"; did you mean {close[0]}?" if close else f"; it takes {', '.join(parameters)}"
            raise InputError(f"{key}.{name} is not a parameter of {target}{meant}")
        if isinstance(value, dict) and "_target_" in value:
            _check_node(f"{key}.{name}", value, frozenset())
        elif name in hints:
            adapter = pydantic.TypeAdapter(hints[name], config={"arbitrary_types_allowed": True})
            try:
                adapter.validate_python(value, strict=False)
            except pydantic.ValidationError as error:
                raise InputError(f"{key}.{name}={value!r}: {error.errors()[0]['msg']}") from error
    for name, parameter in parameters.items():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not variadic and name not in node and name not in supplied:
            raise InputError(f"{key}.{name} is missing: {target} needs it")
