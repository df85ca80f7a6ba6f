"""Names and text files of the simulated dataset, after BIDS 1.10 (bids-specification.readthedocs.io)."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from neuro_ssl import __version__
from neuro_ssl.simulation.cohort import Subject
from neuro_ssl.simulation.scanner import description, scanner_name, site_name

RECORD = "simulation.json"
MASKS = "derivatives/masks"

_GENERATED_BY = [{"Name": "neuro_ssl.simulate", "Version": __version__}]
_LICENSE = "ICBM 152 licence, see README"

_README = """\
Simulated brain MRI
===================

Nobody was scanned. Every image here was computed by `python -m neuro_ssl.simulate` (package neuro_ssl) from one
real anatomy, the ICBM 152 non-linear symmetric template of 2009, with planted effects of age, sex, Alzheimer's
disease and stroke. The settings of this dataset, with the size of every effect, are in `simulation.json`; the package's
`neuro_ssl/simulation/effects.py` says what each means. Anything computed from these images must be called simulated.

derivatives/masks holds the brain masks (brain tissue with the fluid in and around it).

The template is copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
Institute, McGill University. Permission to use, copy, modify, and distribute it and its documentation for any
purpose and without fee is hereby granted, provided that this copyright notice appears in all copies. The authors
and McGill University make no representations about its suitability for any purpose; it is provided "as is"
without express or implied warranty.

Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54(1):313-327.
"""

_MASKS_README = """\
Brain masks of the simulated scans, exact by construction: brain tissue with the fluid in and around it. See the
README of the dataset, two folders up.
"""

_AGE = {"Description": "Age, simulated", "Units": "year"}
_PARTICIPANTS = {
    "age": _AGE | {"Description": "Age at the first session, simulated"},
    "sex": {"Description": "Simulated sex", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "Site of the first session, simulated"},
    "diagnosis": {
        "Description": "Simulated diagnosis, the same at all sessions",
        "Levels": {"CN": "cognitively normal", "AD": "Alzheimer's disease", "stroke": "stroke with a visible lesion"},
    },
    "nihss": {"Description": "Stroke severity by the NIH Stroke Scale, 1 to 25; n/a without a stroke"},
}
_SESSIONS = {
    "age": _AGE,
    "visit": {
        "Description": "Why the subject came",
        "Levels": {
            "baseline": "the first session",
            "retest": "again within days, the anatomy unchanged",
            "follow-up": "again after years",
        },
    },
    "days": {"Description": "Days since the baseline", "Units": "day"},
    "site": {"Description": "Simulated site; another than the participant's where they travelled for a retest"},
    "scanner": {"Description": "Simulated scanner, as DeviceSerialNumber in the image's JSON file"},
    "field_strength": {"Description": "Strength of the scanner's magnet", "Units": "T"},
}


def scan_names(subject: Subject, session: int) -> tuple[str, str]:
    """Paths of a scan's image and brain mask within the dataset; `session` counts from 0."""
    folder = f"sub-{subject.label}/ses-{session + 1:02d}/anat"
    prefix = f"{folder}/sub-{subject.label}_ses-{session + 1:02d}"
    return f"{prefix}_T1w.nii.gz", f"{MASKS}/{prefix}_desc-brain_mask.nii.gz"


def root_texts(subjects: Sequence[Subject]) -> dict[str, str]:
    """The text files outside the subjects' folders: path within the dataset → content."""
    people = (
        (f"sub-{s.label}", s.sessions[0].age_years, s.sex, site_name(s.sessions[0]), s.diagnosis, s.nihss or "n/a")
        for s in subjects
    )
    description = {
        "Name": "Simulated brain MRI cohort of neuro_ssl",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "License": _LICENSE,
        "Authors": ["neuro_ssl"],
        "GeneratedBy": _GENERATED_BY,
    }
    masks = description | {"Name": "Brain masks of the simulated cohort", "DatasetType": "derivative"}
    return {
        "dataset_description.json": as_json(description),
        "README": _README,
        ".bidsignore": f"{RECORD}\n",
        "participants.tsv": _table(("participant_id", "age", "sex", "site", "diagnosis", "nihss"), people),
        "participants.json": as_json(_PARTICIPANTS),
        "sessions.json": as_json(_SESSIONS),
        f"{MASKS}/dataset_description.json": as_json(masks),
        f"{MASKS}/README": _MASKS_README,
    }


def subject_texts(subject: Subject) -> dict[str, str]:
    """The text files in a subject's folders: path within the dataset → content."""
    rows = (
        (f"ses-{number:02d}", s.age_years, s.visit, s.days, site_name(s), scanner_name(s), s.field_tesla)
        for number, s in enumerate(subject.sessions, start=1)
    )
    folder = f"sub-{subject.label}"
    texts = {f"{folder}/{folder}_sessions.tsv": _table(("session_id", *_SESSIONS), rows)}
    for number, session in enumerate(subject.sessions):
        image, mask = scan_names(subject, number)
        texts[image.replace(".nii.gz", ".json")] = as_json(description(session))
        texts[mask.replace(".nii.gz", ".json")] = as_json({"Type": "Brain", "Sources": [f"bids::{image}"]})
    return texts


def as_json(content: Any) -> str:
    """As the dataset's JSON files are written."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in (columns, *rows))
