"""The settings of a simulated cohort: their ranges, and the record in the dataset's folder that guards it."""

import json
import shutil
from pathlib import Path
from typing import Any

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.simulation.bids import MASKS, RECORD, as_json, root_texts
from neuro_ssl.simulation.cohort import ALZHEIMERS_ONSET_YEARS


def check(settings: dict[str, Any]) -> None:
    """Refuse what is out of its range.

    Raises:
        InputError: naming the argument, its range and its value.
    """

    def require(holds: bool, name: str, range_: str) -> None:
        if not holds:
            raise InputError(f"{name} must be {range_}, got {_shown(settings[name])}")

    require(1 <= settings["n_subjects"] <= 9999, "n_subjects", "from 1 to 9999")
    require(settings["seed"] >= 0, "seed", "0 or more")
    require(1 <= settings["spacing_mm"] <= 8, "spacing_mm", "from 1 to 8")
    require(settings["n_sites"] >= 1, "n_sites", "1 or more")
    require(settings["scanners_per_site"] >= 1, "scanners_per_site", "1 or more")
    require(settings["n_follow_ups"] >= 0, "n_follow_ups", "0 or more")
    require(settings["n_jobs"] >= 1, "n_jobs", "1 or more")
    fields = settings["field_strengths"]
    require(len(fields) > 0 and set(fields) <= {1.5, 3.0}, "field_strengths", "a list of 1.5 and 3")
    for name in ("follow_up_fraction", "retest_fraction", "alzheimers_fraction", "stroke_fraction"):
        require(0 <= settings[name] <= 1, name, "from 0 to 1")
    if settings["alzheimers_fraction"] + settings["stroke_fraction"] > 1:
        raise InputError("alzheimers_fraction and stroke_fraction add up to more than 1")
    ages = settings["age_range"]
    require(len(ages) == 2 and 18 <= ages[0] <= ages[1] <= 100, "age_range", "[youngest, oldest] from 18 to 100")
    if settings["alzheimers_fraction"] > 0 and ages[1] < ALZHEIMERS_ONSET_YEARS:
        raise InputError(
            f"age_range={_shown(ages)} has nobody of {ALZHEIMERS_ONSET_YEARS:g} or older who could have Alzheimer's "
            "disease; set alzheimers_fraction=0"
        )


def claim(output: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Make `output` the folder of these settings.

    Raises:
        InputError: it holds something else, or a cohort of other settings that `overwrite` does not allow to replace.
    """
    record = output / RECORD
    settings = json.loads(as_json(settings))  # tuples become lists, as in the file
    if record.is_file():
        try:
            recorded = dict(json.loads(record.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{record}: damaged ({error}); delete {output}, or choose another output=") from error
        if recorded == settings:
            return
        if not overwrite:
            theirs, ours = _flat(recorded), _flat(settings)
            differing = [f"{key}={theirs.get(key, 'unknown')}" for key in ours if theirs.get(key) != ours[key]]
            more = f", … {len(differing) - 6} more" if len(differing) > 6 else ""
            raise InputError(
                f"{output} holds a simulated cohort of other settings ({', '.join(differing[:6])}{more}); "
                "replace it with overwrite=true or choose another folder with output="
            )
        _remove(output, recorded["n_subjects"])
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} was not written by this command and is left alone; choose another output=")
    write_text(record, as_json(settings))


def _remove(output: Path, n_subjects: int) -> None:
    """Delete what an earlier simulation of `n_subjects` wrote, and nothing else."""
    for root in (output, output / MASKS):
        for number in range(1, n_subjects + 1):
            if (root / f"sub-{number:04d}").exists():
                shutil.rmtree(root / f"sub-{number:04d}")
    for name in root_texts([]):
        (output / name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """With `effects.csf` for `csf` within `effects`."""
    nested = {f"effects.{name}": value for name, value in settings.get("effects", {}).items()}
    return {name: value for name, value in settings.items() if name != "effects"} | nested


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
