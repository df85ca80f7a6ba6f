"""Who is in the cohort, and when and where each is scanned: age, sex, site, diagnosis and sessions of every subject.

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
FOLLOW_UP_YEARS = (2.0, 4.0)  # between one session and the next
RETEST_DAYS = (1, 14)
DAYS_A_YEAR = 365.25


class Stream(IntEnum):
    """Independent sources of randomness."""

    COHORT = 0  # who takes part: (), or (subject,) for what the sequence does not place
    TRAITS = 1  # (subject,): how age, sex and disease show
    ANATOMY = 2  # (subject,): shape and texture that mean nothing
    SESSION = 3  # (subject, session): position, bias field and noise
    SITE = 4  # (site,) and, from its second scanner on, (site, scanner): scanner and protocol
    VISITS = 5  # (), or (subject,): which scanner, and who comes again within days
    PLANNING = 6  # (subject, session): where the voxel grid lies


def random_stream(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of one purpose: the same whatever else is drawn, in whatever process."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))


@dataclass(frozen=True)
class Session:
    """One visit to a scanner.

    Attributes:
        age_years: age at the visit, to a tenth of a year.
        visit: `baseline`, `retest` (within days of it, the same anatomy) or `follow-up`.
        days: since the baseline.
        site: index of the site.
        scanner: index of the scanner within its site.
        field_tesla: strength of its magnet.
    """

    age_years: float
    visit: str = "baseline"
    days: int = 0
    site: int = 0
    scanner: int = 0
    field_tesla: float = 1.5


@dataclass(frozen=True)
class Subject:
    """One simulated person.

    Attributes:
        seed: of the cohort.
        index: place in the cohort, from 0.
        sessions: in order, the baseline first.
        sex: `M` or `F`.
        diagnosis: `CN` (healthy), `AD` (Alzheimer's disease) or `stroke`.
        nihss: stroke severity, 1 to 25, where there is a stroke.
    """

    seed: int
    index: int
    sessions: tuple[Session, ...]
    sex: str
    diagnosis: str
    nihss: int | None

    @property
    def label(self) -> str:
        """The BIDS label, such as `0001`."""
        return f"{self.index + 1:04d}"


@dataclass(frozen=True)
class Scanners:
    """The scanners of a cohort: the same number at every site.

    Attributes:
        n_sites: number of sites.
        per_site: scanners at each.
        field_strengths: in tesla; a site's scanners take them in turn, each site starting one further on.
    """

    n_sites: int
    per_site: int
    field_strengths: Sequence[float]

    def field_tesla(self, site: int, scanner: int) -> float:
        """The field strength of a site's scanner."""
        return self.field_strengths[(site + scanner) % len(self.field_strengths)]

    def another(self, site: int, scanner: int, rng: np.random.Generator) -> tuple[int, int]:
        """Where a retest on another scanner takes place: (site, scanner).

        Half on another scanner of the site, half by travelling to another site; all the one or the other where there is
        no choice. With a single scanner everywhere, on that.
        """
        travels = rng.random() < 0.5
        if self.n_sites > 1 and (travels or self.per_site == 1):
            return int((site + rng.integers(1, self.n_sites)) % self.n_sites), int(rng.integers(self.per_site))
        if self.per_site > 1:
            return site, int((scanner + rng.integers(1, self.per_site)) % self.per_site)
        return site, scanner


def plan_cohort(
    n_subjects: int,
    seed: int,
    n_sites: int,
    follow_up_fraction: float,
    alzheimers_fraction: float,
    stroke_fraction: float,
    age_range: Sequence[float],
    scanners_per_site: int = 1,
    field_strengths: Sequence[float] = (1.5,),
    n_follow_ups: int = 1,
    retest_fraction: float = 0.0,
) -> list[Subject]:
    """Draw the subjects; see `simulate_cohort` for the arguments."""
    n_attributes = 5
    root = 1.0
    for _ in range(50):  # the root of x^(d+1) = x + 1
        root = (1 + root) ** (1 / (n_attributes + 1))
    steps = root ** -np.arange(1.0, n_attributes + 1)
    start = random_stream(seed, Stream.COHORT).random(n_attributes)
    retest_start = random_stream(seed, Stream.VISITS).random()
    scanners = Scanners(n_sites, scanners_per_site, field_strengths)

    subjects = []
    for index in range(n_subjects):
        of_age, of_sex, of_site, of_diagnosis, of_follow_up = (start + index * steps) % 1
        of_retest = (retest_start + index * (5**0.5 - 1) / 2) % 1  # the same sequence in one dimension
        rng = random_stream(seed, Stream.COHORT, index)
        youngest, oldest = age_range
        if of_diagnosis < alzheimers_fraction:
            diagnosis, youngest = "AD", max(youngest, ALZHEIMERS_ONSET_YEARS)
        elif of_diagnosis < alzheimers_fraction + stroke_fraction:
            diagnosis = "stroke"
        else:
            diagnosis = "CN"
        ages = [youngest + of_age * (oldest - youngest)]
        followed = of_follow_up < follow_up_fraction and n_follow_ups > 0
        if followed:
            ages.append(ages[0] + rng.uniform(*FOLLOW_UP_YEARS))
        severity = rng.beta(1.0, 1.6)  # many mild strokes, few severe ones
        for _ in range(n_follow_ups - 1 if followed else 0):  # after the draws that any number of them shares
            ages.append(ages[-1] + rng.uniform(*FOLLOW_UP_YEARS))
        subjects.append(
            Subject(
                seed=seed,
                index=index,
                sessions=_sessions(ages, int(of_site * n_sites), of_retest < retest_fraction, scanners, seed, index),
                sex="F" if of_sex < 0.5 else "M",
                diagnosis=diagnosis,
                nihss=1 + round(severity * (MAX_NIHSS - 1)) if diagnosis == "stroke" else None,
            )
        )
    return subjects


def _sessions(
    ages_years: Sequence[float], site: int, retested: bool, scanners: Scanners, seed: int, index: int
) -> tuple[Session, ...]:
    """Baseline, retest and follow-ups; all but the retest on one scanner."""
    rng = random_stream(seed, Stream.VISITS, index)
    scanner = int(rng.integers(scanners.per_site))
    retest_days, elsewhere = int(rng.integers(RETEST_DAYS[0], RETEST_DAYS[1] + 1)), rng.random() < 0.5

    def session(age_years: float, visit: str, days: int, site: int, scanner: int) -> Session:
        return Session(round(float(age_years), 1), visit, days, site, scanner, scanners.field_tesla(site, scanner))

    sessions = [session(ages_years[0], "baseline", 0, site, scanner)]
    if retested:
        place = scanners.another(site, scanner, rng) if elsewhere else (site, scanner)
        sessions.append(session(ages_years[0], "retest", retest_days, *place))
    for age_years in ages_years[1:]:
        days = round(float(age_years - ages_years[0]) * DAYS_A_YEAR)
        sessions.append(session(age_years, "follow-up", days, site, scanner))
    return tuple(sessions)
