"""The methods' part on data: whom, how scans were prepared, how subjects were divided."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.reporting.methods.words import counted, listed, sentences, unknown
from neuro_ssl.reporting.runs.records import Dataset

SPLITS = {"train": "training", "val": "validation", "test": "test"}
SEXES = {"F": "female", "M": "male"}
FOLD = re.compile(r"(val|test) = fold (\d+) of 0–(\d+)(.*)")  # as `data.protocols.KFold` is told
NO_SIMULATION = "recruitment, inclusion criteria, scanners and sequences, ethics approval and consent"


def participants(datasets: Sequence[Dataset]) -> str:
    """One paragraph a cohort, on whom was scanned; and of each division, who went where."""
    paragraphs = []
    cohorts: dict[tuple[str, str], list[Dataset]] = {}
    for dataset in datasets:
        cohorts.setdefault((dataset.cohort, dataset.manifest_hash), []).append(dataset)
    for of_cohort in cohorts.values():
        paragraphs.append(sentences(_cohort(of_cohort), *_divisions(of_cohort)))
    return "\n\n".join(paragraphs)


def preprocessing(datasets: Sequence[Dataset]) -> str:
    """What was done to scans: once where it is the same for all cohorts."""
    prepared: dict[str, list[str]] = {}
    for dataset in datasets:
        prepared.setdefault(_steps(dataset), []).append(dataset.cohort)
    if len(prepared) == 1:
        return next(iter(prepared))
    return " ".join(f"Cohort {listed(list(dict.fromkeys(names)))}: {text}" for text, names in prepared.items())


def _cohort(datasets: Sequence[Dataset]) -> str:
    """Whom it has; stores on other grids are of the same people."""
    first = datasets[0]
    n_scans, n_subjects = (sum(counts.values()) for counts in (first.n_scans, first.n_subjects))
    scans = f"{counted(n_scans, 'T1-weighted scan')} of {counted(n_subjects, 'subject')}"
    of = f" (cohorts {listed(sorted(first.cohorts))})" if first.cohorts else ""
    if first.simulated:
        text = (
            f"The data were simulated: {scans} of the cohort “{first.cohort}”{of}, made by neuro_ssl’s simulation with "
            "planted effects. No participant was scanned, and nothing here is a finding about people."
        )
    else:
        text = f"We used {scans} of the cohort {first.cohort}{of} ({unknown(NO_SIMULATION)})."
    if first.n_excluded:
        were = "scan was" if first.n_excluded == 1 else "scans were"
        text += f" {first.n_excluded} further {were} left out ({unknown('reasons, from exclude.csv')})."
    return text


def _divisions(datasets: Sequence[Dataset]) -> list[str]:
    """How subjects were divided, once a way of it."""
    told: dict[str, None] = {}
    divisions = list({dataset.split_hash: dataset for dataset in datasets}.values())
    folds = [dataset for dataset in divisions if FOLD.match(dataset.split or "")]
    if len(folds) > 1:
        told |= dict.fromkeys(_cross_validation(folds))
        divisions = [dataset for dataset in divisions if dataset not in folds]
    for dataset in divisions:
        parts = []
        for split, name in SPLITS.items():
            if split in dataset.n_subjects:
                about = _people(dataset.demographics.get(split, {}))
                counts = f"{counted(dataset.n_subjects[split], 'subject')}, {counted(dataset.n_scans[split], 'scan')}"
                parts.append(f"{name} ({'; '.join(filter(None, [counts, about]))})")
        how = f" ({dataset.split})" if dataset.split else ""
        if len(parts) > 1:
            told[f"Subjects, with all their scans, were divided into {listed(parts)}{how}."] = None
    if not any(dataset.demographics for dataset in datasets):
        told[f"{unknown('ages and sexes')}."] = None
    told[f"{unknown('how subjects were assigned; by default at random, balanced for sex and age')}."] = None
    return list(told)


def _cross_validation(datasets: Sequence[Dataset]) -> list[str]:
    """A sentence for all folds of one division."""
    divided: dict[tuple[str, str], list[Dataset]] = {}
    numbers = {}
    for dataset in datasets:
        held_out, fold, last, rest = cast("re.Match[str]", FOLD.match(dataset.split or "")).groups()
        divided.setdefault((f"into {int(last) + 1} folds{rest}", held_out), []).append(dataset)
        numbers[dataset.split_hash] = int(fold)
    told = []
    for (how, held_out), members in divided.items():
        which = sorted({numbers[dataset.split_hash] for dataset in members})
        counts = [
            f"{name} {_range([one.n_subjects[split] for one in members])} subjects, "
            f"{_range([one.n_scans[split] for one in members])} scans"
            for split, name in SPLITS.items()
            if all(split in one.n_subjects for one in members)
        ]
        told.append(
            f"For cross-validation, subjects, with all their scans, were divided {how}, of which number "
            f"{listed([str(one) for one in which])} in turn was the {SPLITS[held_out]} split ({'; '.join(counts)})."
        )
    return told


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _people(known: Mapping[str, Any]) -> str:
    """Ages and sexes of a split."""
    parts = []
    if age := known.get("age_years"):
        spread = f" ± {age['sd']:.1f} years, range {age['min']:.1f}–{age['max']:.1f}" if "sd" in age else " years"
        parts.append(f"age {age['mean']:.1f}{spread}")
    if sex := known.get("sex"):
        parts.append(", ".join(f"{n} {SEXES.get(name, name)}" for name, n in sex.items()))
    return "; ".join(parts)


def _steps(dataset: Dataset) -> str:
    """Of one store."""
    done = dataset.preprocessing
    if not {"brain_extraction", "registration", "bias_correction"} <= set(done):
        return f"{unknown('preprocessing, which was done elsewhere')}. {_grid(dataset, 'Volumes were')}"
    steps = []
    if done["bias_correction"]:
        steps.append("corrected for bias fields by N4 (Tustison et al. 2010)")
    steps += {
        "mask": [f"skull-stripped with the brain masks that came with them ({unknown('how these were made')})"]
        if not dataset.simulated
        else ["skull-stripped with the simulation’s own brain masks"],
        "deepbet": ["skull-stripped by deepbet (Fisch et al. 2024)"],
        "synthstrip": ["skull-stripped by SynthStrip (Hoopes et al. 2022)"],
        "none": [],
    }.get(done["brain_extraction"], [unknown(f"brain extraction, {done['brain_extraction']}")])
    template = "to the MNI152 template (ICBM 2009, nonlinear symmetric; Fonov et al. 2011)"
    steps += {
        "rigid": [f"registered {template} by a rigid transformation"],
        "affine": [f"registered {template} by an affine transformation"],
        "centre": ["moved without rotation to the centre of the MNI152 template (Fonov et al. 2011)"],
        "none": [],
    }.get(done["registration"], [unknown(f"registration, {done['registration']}")])
    intensity = (
        "divided by the intensity of white matter, the last mode of the brain’s histogram (Shinohara et al. 2014)"
    )
    steps += [intensity] if done.get("intensity") == "white matter = 1" else []
    before = [
        text
        for key, text in (("brain_extraction", "brain extraction"), ("registration", "registration to MNI152"))
        if done[key] == "none"
    ]
    came = f" Images came with {listed(before)} done ({unknown('how')})." if before else ""
    tools = " Registration and bias correction used SimpleITK (Lowekamp et al. 2013)."
    used = done["bias_correction"] or done["registration"] in ("rigid", "affine")
    return f"Images were {', then '.join(steps)}.{came}{tools if used else ''} {_grid(dataset)}"


def _grid(dataset: Dataset, put: str = "A single interpolation put them") -> str:
    try:
        grid = Grid.named(dataset.grid)
    except InputError:
        return f"Volumes were on the grid {dataset.grid} ({unknown('its voxels')})."
    shape = " × ".join(map(str, reversed(grid.shape)))
    return f"{put} on a grid of {shape} voxels (left–right, back–front, bottom–top) of {grid.spacing_mm:g} mm."
