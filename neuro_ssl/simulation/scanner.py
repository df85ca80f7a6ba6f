"""The machine that takes a scan: its contrast and flaws, and what its files say of it.

Manufacturers and models are made up; a manufacturer is told by the axis order of its files.
"""

from dataclasses import dataclass

import numpy as np

from neuro_ssl.simulation.cohort import Session, Stream, random_stream
from neuro_ssl.simulation.effects import Effects

ORIENTATIONS = ("RAS", "LAS", "PSR")  # how manufacturers store their arrays
MANUFACTURERS = (("Aldra", "Aldra One"), ("Borealis", "Borealis Wide"), ("Cygnet", "Cygnet Pro"))


@dataclass(frozen=True)
class Scanner:
    """One scanner and its protocol; intensities are relative to white matter.

    Attributes:
        site, number: index of the site, and of the scanner within it.
        field_tesla: strength of the magnet.
        scale: stored value of white matter.
        csf, gm, scalp: intensity of fluid and grey matter; factor on everything outside the brain.
        bias: standard deviation of the log of the receive field.
        noise: standard deviation of each of the two channels.
    """

    site: int
    number: int
    field_tesla: float
    scale: float
    csf: float
    gm: float
    scalp: float
    bias: float
    noise: float

    @classmethod
    def of(cls, session: Session, seed: int, effects: Effects) -> "Scanner":
        """The scanner of a session in the cohort of `seed`."""
        # The first scanner has the site's own key, so that a site of one scanner is what it was before there were more.
        rng = random_stream(seed, Stream.SITE, session.site, *([session.scanner] if session.scanner else []))
        at_3t = session.field_tesla > 2
        return cls(
            site=session.site,
            number=session.scanner,
            field_tesla=session.field_tesla,
            scale=float(np.exp(rng.uniform(np.log(200), np.log(4000)))),
            csf=rng.uniform(*effects.csf) * (effects.csf_3t if at_3t else 1),
            gm=rng.uniform(*effects.gm) * (effects.gm_3t if at_3t else 1),
            scalp=rng.uniform(*effects.scalp),
            bias=rng.uniform(*effects.bias) * (effects.bias_3t if at_3t else 1),
            noise=rng.uniform(*effects.noise) * (effects.noise_3t if at_3t else 1),
        )

    @property
    def orientation(self) -> str:
        """Axis order of its files."""
        return ORIENTATIONS[(self.site + self.number) % len(ORIENTATIONS)]


def site_name(session: Session) -> str:
    """The site, such as `site-1`."""
    return f"site-{session.site + 1}"


def scanner_name(session: Session) -> str:
    """The scanner, such as `site-1_scanner-2`: unique in the cohort."""
    return f"{site_name(session)}_scanner-{session.scanner + 1}"


def description(session: Session) -> dict[str, str | float]:
    """What BIDS wants to know of a session's scanner, for the image's JSON file."""
    manufacturer, model = MANUFACTURERS[(session.site + session.scanner) % len(MANUFACTURERS)]
    return {
        "InstitutionName": f"{site_name(session)}, simulated",
        "Manufacturer": f"{manufacturer}, simulated",
        "ManufacturersModelName": f"{model} {session.field_tesla:g}T",
        "DeviceSerialNumber": scanner_name(session),
        "MagneticFieldStrength": session.field_tesla,
    }
