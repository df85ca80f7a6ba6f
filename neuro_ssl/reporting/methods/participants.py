"""The methods' part on data: whom, how scans were prepared, how subjects were divided."""

from collections.abc import Mapping, Sequence
from typing import Any

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.reporting.methods.words import counted, listed, sentences, unknown
from neuro_ssl.reporting.runs.records import Dataset

SPLITS = {"train": "training", "val": "validation", "test": "test"}
SEXES = {"F": "female", "M": "male"}
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
    for dataset in {dataset.split_hash: dataset for dataset in datasets}.values():
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


def _people(known: Mapping[str, Any]) -> str:
    """Ages and sexes of a split."""
    parts = []
    if age := known.get("age_years"):
        sd = f" ± {age['sd']:.1f}" if "sd" in age else ""
        parts.append(f"age {age['mean']:.1f}{sd} years, range {age['min']:.1f}–{age['max']:.1f}")
    if sex := known.get("sex"):
        parts.append(", ".join(f"{n} {SEXES.get(name, name)}" for name, n in sex.items()))
    return "; ".join(parts)


def _steps(dataset: Dataset) -> str:
    """Of one store."""
    done = dataset.preprocessing
    if not {"brain_extraction", "registration", "bias_correction"} <= set(done):
        return f"{unknown('preprocessing, which was done elsewhere')}. {_grid(dataset)}"
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


def _grid(dataset: Dataset) -> str:
    try:
        grid = Grid.named(dataset.grid)
    except InputError:
        return f"Volumes were on the grid {dataset.grid} ({unknown('its voxels')})."
    shape = " × ".join(map(str, reversed(grid.shape)))
    return (
        f"A single interpolation put them on a grid of {shape} voxels (left–right, back–front, bottom–top) of "
        f"{grid.spacing_mm:g} mm."
    )
