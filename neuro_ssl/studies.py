"""Searches by Optuna (`hydra/sweeper=optuna`): what is searched by which score, and in which trial a run takes part.

The sweeper itself is `hydra_plugins.neuro_ssl_optuna`, since Hydra takes sweepers from that package alone.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.utils import get_class

from neuro_ssl.config import build, choices, plain
from neuro_ssl.errors import InputError
from neuro_ssl.run_names import that_matter
from neuro_ssl.sweeps import keeps_test_closed

# What changes the score's meaning, the scans that it is of, or its luck: values of it don't compare.
NO_SETTINGS = {
    *("task", "task.target", "task.classes", "task.leave_out", "task.targets", "objective", "open_test", "name"),
    *("dataset", "split", "label_fraction", "label_seed", "seed", "data_dir", "runs_dir"),
}


def score_to_search_by(cfg: Any) -> tuple[str, Literal["min", "max"]]:
    """The validation score that a search goes by, and whether a smaller or a larger one is better.

    Args:
        cfg: the composed configuration of `train`.

    Raises:
        InputError: there is none.
    """
    from neuro_ssl.data.targets import read_targets, score_of
    from neuro_ssl.evaluation.representation import better

    if "objective" not in cfg:
        raise InputError("hydra/sweeper=optuna searches among trainings: it goes with neuro_ssl.train alone")
    pretraining = get_class(cfg.task._target_).stage == "pretraining"  # type: ignore[attr-defined]
    keeps_test_closed(cfg.open_test, pretraining, cfg.objective)
    if not pretraining:
        return score_of(read_targets(choices()["task"], plain(cfg.task)))
    room, _, measure = cfg.objective.partition("/")
    mode = better(measure)
    if room != "representation" or mode is None:
        raise InputError(
            f"objective={cfg.objective} is nothing to search by; it takes representation/rankme, or a probe such as "
            "representation/age_years_ridge_mae, representation/sex_logistic_auroc"
        )
    return cfg.objective, mode


def read_space(overrides: Iterable[Override]) -> tuple[dict[str, Any], list[str]]:
    """What is searched, and what is fixed; of two settings of one key the later counts.

    Hydra's sweep syntax is Optuna's distributions: `a,b` and `choice(a,b)` are categorical, `range(start,stop,step)`
    steps (the stop excluded), `interval(low,high)` is continuous, `int(interval(low,high))` whole numbers, and
    `tag(log,interval(low,high))` even in the logarithm.

    Args:
        overrides: parsed by Hydra.

    Returns:
        Distributions by key, and the other overrides as on the command line.

    Raises:
        InputError: naming the key that cannot be searched.
    """
    latest = {override.key_or_group: override for override in overrides}
    space = {o.get_key_element(): _distribution(o) for o in latest.values() if o.is_sweep_override()}
    fixed = [override.input_line or "" for override in latest.values() if not override.is_sweep_override()]
    if not space:
        raise InputError(
            "nothing is searched: give a setting a range, such as "
            "'optimizer.learning_rate=tag(log,interval(0.0001,0.01))', or in hydra.sweeper.params"
        )
    return space, fixed


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    key, sweep = override.key_or_group, override.value()
    if key in NO_SETTINGS or key.partition(".")[0] in ("dataset", "split"):
        raise InputError(
            f"{key} cannot be searched, since scores at its values don't compare: fix it, or compare its values in a "
            "plain sweep (-m without hydra/sweeper)"
        )
    try:
        if isinstance(sweep, IntervalSweep):
            kind = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in sweep.tags)  # type: ignore[arg-type]
        if isinstance(sweep, RangeSweep):
            values = sorted(float(value) for value in sweep.range())
            step = abs(sweep.step)
            if all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step)):
                return IntDistribution(int(values[0]), int(values[-1]), step=int(step))
            return FloatDistribution(values[0], values[-1], step=float(step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise InputError(f"{override.input_line}: {error}") from error


def corner(space: Mapping[str, Any]) -> dict[str, Any]:
    """One point of a space, to see whether it composes."""
    return {key: d.low if hasattr(d, "low") else d.choices[0] for key, d in space.items()}


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """A trial's parameters as on the command line."""
    return [f"{key}={value}" for key, value in params.items()]


def settings_of(cfg: Any, space: Mapping[str, Any], goal: tuple[str, str]) -> dict[str, str]:
    """All that makes two searches different ones, as text by key.

    Args:
        cfg: the composed configuration.
        space: what is searched.
        goal: see `score_to_search_by`.
    """
    config = {str(key): plain(cfg[key]) for key in cfg if key != "hydra"}
    sweeper = plain(HydraConfig.get().sweeper)
    kept = that_matter(config) | {key: config[key] for key in ("dataset", "grid", "weights")}
    kept |= {f"hydra.sweeper.{key}": sweeper[key] for key in ("sampler", "pruner")}
    flat = {key: str(value) for key, value in _flat(kept) if key not in space}
    return flat | {key: str(distribution) for key, distribution in space.items()} | {"score": " ".join(goal)}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def refuse_other_settings(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """A search goes on as it began: its scores would not compare, nor its sampler know.

    Raises:
        InputError: naming what differs.
    """
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if keys:
        differences = "; ".join(f"{key}: {before.get(key, 'none')} → {now.get(key, 'none')}" for key in keys)
        raise InputError(
            f"the study {name} was begun with other settings ({differences}): name another one, "
            f"hydra.sweeper.study_name={name}_2"
        )


def open_storage(url: str) -> Any:
    """Optuna's database; one in a file waits a minute for other processes that write to it.

    Raises:
        InputError: it cannot be opened.
    """
    from optuna.storages import RDBStorage

    try:
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None)
    except Exception as error:  # of the URL, of a driver, of the database, of the connection
        raise InputError(f"hydra.sweeper.storage={url} cannot be opened: {str(error).splitlines()[0]}") from error


def open_trial() -> Any | None:
    """The `optuna.Trial` that this run is of a search; None outside a search."""
    sweeper = HydraConfig.get().sweeper
    if sweeper.get("trial") is None:
        return None
    import optuna

    storage = open_storage(sweeper.storage)
    how = {"sampler": optuna.samplers.RandomSampler(), "pruner": build(plain(sweeper.pruner))}
    study = optuna.load_study(study_name=sweeper.study_name, storage=storage, **how)
    study_id = storage.get_study_id_from_name(sweeper.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, sweeper.trial))


def is_score(value: Any) -> bool:
    """Whether a point came to a score."""
    return isinstance(value, float) and math.isfinite(value)
