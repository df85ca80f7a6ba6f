"""Which scans of a cohort a person should look at, and why. All rules are here; `quality` makes what they judge.

A measurement is out of line where it leaves the cohort, more than `FAR` robust standard deviations from the median
(median and median absolute deviation, Leys et al. 2013, doi 10.1016/j.jesp.2013.03.013), or leaves what is plausible
anywhere, by which small cohorts are judged too. What no scan shows by itself comes from comparing scans with each
other: second copies, and left and right swapped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from neuro_ssl.preprocessing.quality import correlations, mirror

Fingerprints = npt.NDArray[np.float16]

FAR = 5.0  # robust standard deviations
SMALLEST_COHORT = 10  # scans, for a median absolute deviation to mean something
SMALLEST_FOR_SWAPS = 20  # scans, for their mean asymmetry to be that of the species
LARGEST_REFERENCE = 2000  # scans that others are compared with for swaps: more gain nothing and cost minutes
RIDGE = 0.1  # a scan's similarity to itself being 1
SMALLEST_FOR_COPIES = 4  # subjects, to have a mean from which each of two deviates
SWAPPED = -0.1  # sidedness
ONE_SIDED = 0.3  # median sidedness of a cohort that has asymmetries in common; 0.66 in IXI, about 0 in simulated heads
COPY = 0.7  # correlation of two scans' differences from the cohort's mean
BLOCK = 512  # scans compared with all others at once, which bounds memory


@dataclass(frozen=True)
class Rule:
    """When a measurement is out of line.

    Attributes:
        measurement: a column.
        side: in which direction deviations from the cohort count.
        least: deviations smaller than this never count, however alike the other scans are.
        low, high: bounds for any cohort.
        suspicion: what it points to.
    """

    measurement: str
    side: Literal["low", "high", "both"]
    least: float
    low: float
    high: float
    suspicion: str


@dataclass(frozen=True)
class Flag:
    """Why a scan should be looked at.

    Attributes:
        measurement: the column that is out of line.
        reason: with values and limits, for people.
    """

    measurement: str
    reason: str


RULES = (
    # Adults, with the fluid that brain masks include: 1000 to 2000 ml.
    Rule("brain_ml", "both", 200, 700, 2200, "mask too small or too large, or a wrong voxel size"),
    Rule("dice", "low", 0.02, 0.8, math.inf, "the mask is not the brain, or it is badly aligned"),
    Rule("template_correlation", "low", 0.1, 0.3, math.inf, "badly aligned, or not a T1w brain"),
    Rule("missing_ml", "high", 20, -math.inf, 150, "a part of the brain is cut away, or it is badly aligned"),
    # Heads lie within 30° of the template's pose; beyond, the header is wrong more often than the head is turned.
    Rule("rotation_degrees", "high", 15, -math.inf, 45, "wrong orientation in the header, or failed registration"),
    Rule("shift_mm", "high", 50, -math.inf, math.inf, "wrong origin in the header, or failed registration"),
    Rule("voxel_x_mm", "high", 0.5, -math.inf, 3.1, "thick slices"),
    Rule("voxel_y_mm", "high", 0.5, -math.inf, 3.1, "thick slices"),
    Rule("voxel_z_mm", "high", 0.5, -math.inf, 3.1, "thick slices"),
    Rule("grey_to_white", "both", 0.05, 0.4, 0.95, "unusual contrast: another sequence, or a contrast agent"),
    Rule("noise", "high", 0.02, -math.inf, 0.2, "noise or motion"),
    Rule("entropy", "high", 0.05, -math.inf, math.inf, "motion, ghosts or noise"),
)


def judge(
    table: pd.DataFrame, fingerprints: Fingerprints, left_out: Sequence[bool] | npt.NDArray[np.bool_]
) -> tuple[pd.DataFrame, list[list[Flag]]]:
    """Apply all rules to a cohort.

    Args:
        table: one row a scan: `scan_id`, `subject_id`, `image_hash` and the measurements. A measurement that isn't
            there, or is missing, raises no flag.
        fingerprints: (scans, voxels), as `measure_volume` gives them, in the rows' order.
        left_out: which scans are excluded already: nobody is a copy of these.

    Returns:
        The table, indexed from 0, with `sidedness`, and of the most similar scan of another subject `copy_of`,
        `copy_correlation` and `copy_mirrored`; and for each scan its flags.
    """
    kept = ~np.asarray(left_out, bool)
    correlation, other, mirrored = nearest(fingerprints, table["subject_id"].to_numpy(object), kept)
    table = table.reset_index(drop=True).assign(
        sidedness=sidedness(fingerprints),
        copy_of=pd.Series(table["scan_id"].to_numpy()[other]).where(~np.isnan(correlation)),
        copy_correlation=correlation,
        copy_mirrored=mirrored,
    )
    flags: list[list[Flag]] = [[] for _ in range(len(table))]
    one_sided = table["sidedness"].median() > ONE_SIDED
    same, n_subjects = same_images(table, kept), table["subject_id"].nunique()
    for i, (flagged, row) in enumerate(zip(flags, table.to_dict("records"), strict=True)):
        if same[i]:
            flagged.append(Flag("image_hash", f"the same file as {', '.join(same[i])}"))
        elif n_subjects >= SMALLEST_FOR_COPIES and row["copy_correlation"] > COPY:
            how = "mirror image" if row["copy_mirrored"] else "second copy"
            flagged.append(
                Flag("copy_correlation", f"{how} of {row['copy_of']}? (correlation {row['copy_correlation']:.2f})")
            )
        if one_sided and row["sidedness"] < SWAPPED:
            flagged.append(
                Flag("sidedness", f"left and right swapped? (sidedness {row['sidedness']:.2f}, others 0 to 1)")
            )
    for rule in RULES:
        if rule.measurement in table:
            for i, reason in out_of_line(table[rule.measurement].to_numpy(float), rule).items():
                flags[i].append(Flag(rule.measurement, f"{rule.measurement} {reason}: {rule.suspicion}"))
    return table, flags


def limits(values: npt.NDArray[np.float64], rule: Rule) -> tuple[float, float]:
    """The bounds of a rule, for a cohort of these values."""
    low, high = rule.low, rule.high
    values = values[np.isfinite(values)]
    if len(values) >= SMALLEST_COHORT:
        median = float(np.median(values))
        margin = max(rule.least, FAR * 1.4826 * float(np.median(np.abs(values - median))))
        low = max(low, median - margin) if rule.side != "high" else low
        high = min(high, median + margin) if rule.side != "low" else high
    return low, high


def out_of_line(values: npt.NDArray[np.float64], rule: Rule) -> dict[int, str]:
    """Which scans break a rule, and by how much; missing values don't."""
    low, high = limits(values, rule)
    reasons = {}
    for i, value in enumerate(values):
        if value < low:
            reasons[i] = f"{value:.4g} below {low:.4g}"
        elif value > high:
            reasons[i] = f"{value:.4g} above {high:.4g}"
    return reasons


def same_images(table: pd.DataFrame, kept: npt.NDArray[np.bool_]) -> list[list[str]]:
    """For each scan the others, not excluded, that come from a file of the same content.

    Under two subjects, nobody can tell whose image it is: both are named. Of one subject's copies the first may stay.
    """
    same: list[list[str]] = [[] for _ in range(len(table))]
    for rows in table.reset_index(drop=True).groupby("image_hash").indices.values():
        one_subject = table["subject_id"].iloc[rows].nunique() == 1
        for i in rows:
            others = [j for j in rows if kept[j] and (j < i if one_subject else j != i)]
            same[i] = table["scan_id"].iloc[others].tolist()
    return same


def nearest(
    fingerprints: Fingerprints, subjects: npt.NDArray[np.object_], kept: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The most similar scan of another subject, as it is or mirrored.

    Similar is what deviates from the cohort's mean in the same way: between two people the correlation of these
    deviations is near 0, between two scans of one person high, whatever noise and contrast are.

    Args:
        fingerprints: (scans, voxels), as `measure_volume` gives them.
        subjects: (scans,) ids.
        kept: (scans,) who may be named.

    Returns:
        For each scan the correlation, NaN if there is no other subject; the other's row; whether it is mirrored.
    """
    mean = fingerprints.mean(0, dtype=np.float32)
    deviations = fingerprints - mean
    best, other = np.full(len(fingerprints), math.nan), np.full(len(fingerprints), -1)
    mirrored = np.zeros(len(fingerprints), bool)
    for start in range(0, len(fingerprints), BLOCK):
        rows = slice(start, start + BLOCK)
        allowed = (subjects[rows, None] != subjects) & kept
        ways = [correlations(block, deviations) for block in (deviations[rows], fingerprints[rows][:, mirror()] - mean)]
        both = np.where(np.tile(allowed, 2), np.concatenate(ways, 1), -np.inf)
        at = both.argmax(1)
        value = both[np.arange(len(at)), at].astype(np.float64)
        best[rows] = np.where(np.isfinite(value), value, math.nan)
        other[rows], mirrored[rows] = at % len(fingerprints), at >= len(fingerprints)
    return best, other, mirrored


def sidedness(fingerprints: Fingerprints) -> npt.NDArray[np.float64]:
    """Whether a scan's asymmetries are those of the other scans (towards 1) or their mirror images (towards -1).

    Brains are asymmetric in the same way more often than not (Kong et al. 2018, doi 10.1073/pnas.1718418115), and the
    template is symmetric: so the cohort itself is what a scan is compared with. A ridge regression of 1 on the
    asymmetry maps (of -1 on mirrored ones, which changes nothing), each scan predicted from the others in closed form.

    Args:
        fingerprints: (scans, voxels), as `measure_volume` gives them.

    Returns:
        (scans,); NaN in a cohort of less than `SMALLEST_FOR_SWAPS` scans.
    """
    n = len(fingerprints)
    if n < SMALLEST_FOR_SWAPS:
        return np.full(n, math.nan)
    asymmetry = fingerprints.astype(np.float32) - fingerprints[:, mirror()]
    asymmetry /= np.maximum(np.linalg.norm(asymmetry, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    reference = np.unique(np.linspace(0, n - 1, min(n, LARGEST_REFERENCE)).round().astype(int))
    kernel = (asymmetry @ asymmetry[reference].T).astype(np.float64)
    inverse = np.linalg.inv(kernel[reference] + RIDGE * np.eye(len(reference)))
    weights = inverse.sum(1)
    predicted: npt.NDArray[np.float64] = kernel @ weights
    predicted[reference] = 1 - weights / np.diag(inverse)
    return predicted


def not_judged(table: pd.DataFrame) -> list[str]:
    """What could not be judged, and why: for people to know what an empty list of flags does not say.

    Args:
        table: as `judge` returns it.
    """
    lines = []
    if len(table) < SMALLEST_COHORT:
        lines.append(f"outliers within the cohort, which need {SMALLEST_COHORT} scans; fixed bounds alone were applied")
    if len(table) < SMALLEST_FOR_SWAPS:
        lines.append(f"left and right swapped, which needs a cohort of {SMALLEST_FOR_SWAPS} scans")
    elif not table["sidedness"].median() > ONE_SIDED:
        lines.append("left and right swapped, as these heads have no asymmetry in common")
    if table["subject_id"].nunique() < SMALLEST_FOR_COPIES:
        lines.append(
            f"second copies that were stored anew, which need {SMALLEST_FOR_COPIES} subjects; equal files were"
        )
    missing = [
        f"{rule.measurement} ({empty} scans)"
        for rule in RULES
        if (empty := int(table[rule.measurement].isna().sum()) if rule.measurement in table else len(table))
    ]
    if missing:
        lines.append(f"{', '.join(missing)}: not measured when they were preprocessed; do that again to have them")
    return lines
