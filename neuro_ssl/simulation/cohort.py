"""Who is in the cohort: age, sex, site, diagnosis and sessions of every simulated subject.

Attributes follow Roberts' R-sequence (https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences,
2018), which fills the unit cube evenly after any number of points: a cohort of ten has old and young, men and
women at every site, and subject i stays the same however many follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

ALZHEIMERS_ONSET_YEARS = 55.0  # nobody younger has the disease
MAX_NIHSS = 25


class Stream(IntEnum):
    """Independent sources of randomness."""

    COHORT = 0  # who takes part: (), or (subject,) for what the sequence does not place
    TRAITS = 1  # (subject,): how age, sex and disease show
    ANATOMY = 2  # (subject,): shape and texture that mean nothing
    SESSION = 3  # (subject, session): position, bias field and noise
    SITE = 4  # (site,): scanner and protocol


def random_stream(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of one purpose: the same whatever else is drawn, in whatever process."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))


@dataclass(frozen=True)
class Subject:
    """One simulated person.

    Attributes:
        seed: of the cohort.
        index: place in the cohort, from 0.
        session_ages_years: age at each session, the first being the baseline.
        sex: `M` or `F`.
        site: index of the site that scans all sessions.
        diagnosis: `CN` (healthy), `AD` (Alzheimer's disease) or `stroke`.
        nihss: stroke severity, 1 to 25, where there is a stroke.
    """

    seed: int
    index: int
    session_ages_years: tuple[float, ...]
    sex: str
    site: int
    diagnosis: str
    nihss: int | None

    @property
    def label(self) -> str:
        """The BIDS label, such as `0001`."""
        return f"{self.index + 1:04d}"


def plan_cohort(
    n_subjects: int,
    seed: int,
    n_sites: int,
    follow_up_fraction: float,
    alzheimers_fraction: float,
    stroke_fraction: float,
    age_range: Sequence[float],
) -> list[Subject]:
    """Draw the subjects; see `simulate_cohort` for the arguments."""
    n_attributes = 5
    root = 1.0
    for _ in range(50):  # the root of x^(d+1) = x + 1
        root = (1 + root) ** (1 / (n_attributes + 1))
    steps = root ** -np.arange(1.0, n_attributes + 1)
    start = random_stream(seed, Stream.COHORT).random(n_attributes)

    subjects = []
    for index in range(n_subjects):
        of_age, of_sex, of_site, of_diagnosis, of_follow_up = (start + index * steps) % 1
        rng = random_stream(seed, Stream.COHORT, index)
        youngest, oldest = age_range
        if of_diagnosis < alzheimers_fraction:
            diagnosis, youngest = "AD", max(youngest, ALZHEIMERS_ONSET_YEARS)
        elif of_diagnosis < alzheimers_fraction + stroke_fraction:
            diagnosis = "stroke"
        else:
            diagnosis = "CN"
        age_years = youngest + of_age * (oldest - youngest)
        ages = [age_years, age_years + rng.uniform(2, 4)] if of_follow_up < follow_up_fraction else [age_years]
        severity = rng.beta(1.0, 1.6)  # many mild strokes, few severe ones
        subjects.append(
            Subject(
                seed=seed,
                index=index,
                session_ages_years=tuple(round(float(age), 1) for age in ages),
                sex="F" if of_sex < 0.5 else "M",
                site=int(of_site * n_sites),
                diagnosis=diagnosis,
                nihss=1 + round(severity * (MAX_NIHSS - 1)) if diagnosis == "stroke" else None,
            )
        )
    return subjects
