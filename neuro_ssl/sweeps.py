"""Is a sweep (`-m`) a comparison or a search? A search looks at validation scores alone."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from neuro_ssl.config import choices, overridden
from neuro_ssl.errors import InputError
from neuro_ssl.launching import is_sweep

# What tunes a model. All else compares: seeds, folds, datasets, weights, label fractions, recipes, …
TUNING = {
    *("optimizer", "trainer", "batch_size", "early_stopping_patience", "sampling", "views", "dataset.transform"),
    *("task", "encoder"),
}
# Of these two, the choice of an option compares, and so does what is to be predicted.
COMPARING = {"task", "encoder", "task.target", "task.classes", "task.leave_out"}


def keeps_test_closed(open_test: bool, pretraining: bool = False, objective: str | None = None) -> str | None:
    """Why this run is not to look at the test split; None if it is.

    The best of many scores is too good: whoever chooses settings by test scores reports a number that new subjects
    don't give. So a search never opens the test split. A search is a sweep

    - by another sweeper than Hydra's own, such as `hydra/sweeper=optuna`: each next point depends on the scores before;
    - over settings that tune a model (`TUNING`), unless the command line says `open_test=true`, as it may to show how
      the test score depends on a setting.

    The point that is chosen, given as a single command, is tested without being trained again.

    Args:
        open_test: the key's value.
        pretraining: which has no test split.
        objective: the key's value, without which pretraining has no score to search by.

    Raises:
        InputError: the command line asks another sweeper to open it, or to search among pretraining runs.
    """
    sweeper = choices()["hydra/sweeper"] if is_sweep() else None
    if pretraining:
        if sweeper in ("basic", None) or objective:
            return None
        raise InputError(
            f"hydra/sweeper={sweeper} searches by a score, and pretraining has none unless objective names one, such "
            "as objective=representation/age_years_ridge_mae; or compare the weights of a plain sweep (-m) by "
            "python -m neuro_ssl.evaluate"
        )
    if sweeper is None:
        return None if open_test else "open_test=false"
    if sweeper != "basic" and open_test and overridden("open_test"):
        raise InputError(
            f"open_test=true: a search (hydra/sweeper={sweeper}) chooses by validation scores, and doesn't open the "
            "test split; leave it out, and then give the chosen point's command without -m, which tests it"
        )
    if not open_test:
        return "open_test=false"
    if sweeper != "basic":
        return f"hydra/sweeper={sweeper} searches"
    tuned = sorted(key for key in _swept() if _tunes(key))
    return None if not tuned or overridden("open_test") else f"a sweep over {', '.join(tuned)} is a search"


def _tunes(key: str) -> bool:
    return key not in COMPARING and any(key == tuning or key.startswith(f"{tuning}.") for tuning in TUNING)


def _swept() -> set[str]:
    """The keys that differ between the points, by the record that Hydra's sweeper makes of its own command.

    Where it can't be found (a sweep over `runs_dir` moves it away), all that the command line sets.
    """
    hydra = HydraConfig.get()
    record = Path(hydra.sweep.dir) / "multirun.yaml"
    parser = OverridesParser.create()
    if not record.exists():
        return {str(override.key_or_group) for override in parser.parse_overrides(list(hydra.overrides.task))}
    whole: Any = OmegaConf.load(record)
    in_files = [f"{key}={value}" for key, value in (whole.hydra.sweeper.params or {}).items()]
    given = parser.parse_overrides([*in_files, *whole.hydra.overrides.task])
    last = {override.get_key_element(): override for override in given}  # the command line's before a file's
    return {str(override.key_or_group) for override in last.values() if override.is_sweep_override()}


def show_table(sweep: Path) -> None:
    """At the end of a sweep of trainings: what became of it.

    Args:
        sweep: its folder.
    """
    from neuro_ssl.reporting.sweeps.text import conclude

    conclude(sweep)
