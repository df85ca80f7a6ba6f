"""Whether an encoder has seen whom it is judged on.

Each run keeps in `seen.json` what its encoder was trained on, its own training split and what its initial weights had
seen before: hashes of subjects, of the persons that they are by `person_id`, and of images. Before a downstream run
starts, the validation and test splits are looked up in it, and in the run's own training split.

    disjoint      none of them was trained on
    overlapping   some were: an error unless it is allowed, and then every report says so
    unknown       nothing was found, but the weights don't say all that they have seen; published ones at best name
                  cohorts, which the verdict then repeats

An image is known by its file's hash and by that of its preprocessed voxels: the same file under two names, or
compressed anew, is found; one that was exported or resampled differently is not. A subject is known by its id: a cohort
needs one name throughout. Validation subjects are not recorded: they choose an epoch, and nothing is fitted to them.

The hashes are unkeyed, so that the lists of two laboratories can be compared; whoever knows a cohort's ids can tell
which of them are in it. They stay in the run directory.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing

FILE = "seen.json"
DIGITS = 16  # 64 bits: among a million subjects, two of one hash with a chance of 3 in 100 million
NAMED = 5  # subjects that the error names

Verdict = Literal["disjoint", "overlapping", "unknown"]


@dataclass(frozen=True)
class Seen:
    """What an encoder was trained on.

    Attributes:
        subjects: hashes of subject ids and person ids.
        images: hashes of files and of preprocessed voxels.
        complete: whether that is all.
        cohorts: names of cohorts that were trained on, for others' weights as their authors give them.
    """

    subjects: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    complete: bool = True
    cohorts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, scans: pd.DataFrame) -> "Seen":
        """All that these rows of a manifest show."""
        subjects, images = (
            frozenset(text for name in table for text in table[name].dropna())
            for table in (_subject_hashes(scans), _image_hashes(scans))
        )
        return cls(subjects, images, cohorts=frozenset(scans["subject_id"].str.split("/").str[0]))

    @classmethod
    def by(cls, run: str | Path | None) -> "Seen":
        """What the weights of a run, or in a folder of others' weights, have seen; nothing certain if it doesn't say.

        Without weights, nothing.

        Raises:
            InputError: its list is damaged.
        """
        if run is None:
            return cls()
        file = Path(run) / FILE
        if not file.is_file():
            return cls(complete=False)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            subjects, images, cohorts = (frozenset(content.get(key, ())) for key in ("subjects", "images", "cohorts"))
            return cls(subjects, images, bool(content["complete"]), cohorts)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file}: damaged ({error!r}); train that run again, or delete the file, and it stays unknown whom the "
                "weights have seen"
            ) from error

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(
            self.subjects | other.subjects,
            self.images | other.images,
            self.complete and other.complete,
            self.cohorts | other.cohorts,
        )

    def shows(self, scans: pd.DataFrame) -> "pd.Series[bool]":
        """Which of these scans show a subject or an image that was seen."""
        subjects = _subject_hashes(scans).isin(self.subjects).any(axis=1)
        return subjects | _image_hashes(scans).isin(self.images).any(axis=1)

    def write(self, run: Path) -> None:
        """Put it beside the run's checkpoints.

        Raises:
            InputError: it cannot be written.
        """
        content: dict[str, Any] = {"complete": self.complete}
        content |= {key: sorted(getattr(self, key)) for key in ("cohorts", "subjects", "images")}
        with appearing(run / FILE) as file:
            file.write_text(json.dumps(content, indent=0), encoding="utf-8")


@dataclass(frozen=True)
class Leakage:
    """What is known about the subjects that an encoder is judged on.

    Attributes:
        verdict: see above; None for pretraining, which evaluates nobody.
        seen: what the run's weights have seen when it is over.
        n_subjects: how many of each split were trained on, such as {"val": 0, "test": 3}.
        cohorts: names that the weights give, where the verdict is unknown.
    """

    verdict: Verdict | None
    seen: Seen
    n_subjects: dict[str, int]
    cohorts: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, Any] | None:
        """What `run.yaml` and `results.json` say."""
        if self.verdict is None:
            return None
        named = {"cohorts": list(self.cohorts)} if self.verdict == "unknown" else {}
        return {"verdict": self.verdict, "n_subjects": self.n_subjects, **named}

    def __str__(self) -> str:
        return describe(self.verdict, self.n_subjects, self.cohorts) if self.verdict else "leakage: nobody is evaluated"


def describe(verdict: Verdict, n_subjects: Mapping[str, int], cohorts: Sequence[str] = ()) -> str:
    """One line for people, of what `Leakage` holds."""
    if verdict == "overlapping":
        counts = " and ".join(f"{n} {split}" for split, n in n_subjects.items() if n)
        return f"leakage, allowed knowingly: {counts} subjects were trained on"
    if verdict == "unknown":
        named = f"; they name {', '.join(cohorts)}" if cohorts else ""
        return f"leakage unknown: the weights don't say whom they were trained on{named}"
    return "no leakage: no validation or test subject was trained on"


def check_leakage(
    manifest: pd.DataFrame, weights: str | Path | None, seen: Seen | None = None, *, evaluates: bool, allow: bool
) -> Leakage:
    """Look up validation and test subjects among those that the encoder was or will be trained on.

    Args:
        manifest: with `split`; scans without one take no part.
        weights: what the encoder starts from, if anything: a run, or a folder of others' weights.
        seen: what these have seen, where it doesn't lie in that folder.
        evaluates: whether the run evaluates anyone; pretraining does not.
        allow: go on where they overlap.

    Raises:
        InputError: they overlap, naming subjects and the remedy.

    Warns:
        UserWarning: pretraining on someone of the same manifest's validation or test split, under another name.
    """
    before, own = seen or Seen.by(weights), Seen.of(manifest[manifest["split"] == "train"])
    seen = before | own
    evaluated = manifest[manifest["split"].isin(["val", "test"])]
    if not evaluates:
        if names := evaluated["subject_id"][own.shows(evaluated)].unique().tolist():
            warnings.warn(
                f"{len(names)} validation and test subjects are in the training split too, by person or image "
                f"({_listed(names)}): evaluating them with these weights will be refused; list them in exclude.csv, or "
                "give them one split",
                stacklevel=2,
            )
        return Leakage(None, seen, {})
    overlap = evaluated[seen.shows(evaluated)]
    counts = overlap.groupby("split")["subject_id"].nunique()
    n_subjects = {split: int(counts.get(split, 0)) for split in ("val", "test")}
    if overlap.empty:
        return Leakage("disjoint" if seen.complete else "unknown", seen, n_subjects, tuple(sorted(before.cohorts)))
    if not allow:
        by_weights = before.shows(overlap)
        where, remedy = "the training split holds, by person or image,", "give each of them one split (splits.csv)"
        if by_weights.any():
            where, remedy = f"weights={weights} were trained on", "pretrain on the same split (split=… as here)"
            overlap = overlap[by_weights]
        names = overlap["subject_id"].unique().tolist()
        raise InputError(
            f"leakage: {where} {len(names)} of the {evaluated['subject_id'].nunique()} validation and test subjects: "
            f"{_listed(names)}; {remedy}, or set allow_leakage=true, which every report will repeat"
        )
    return Leakage("overlapping", seen, n_subjects)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''}"


def _subject_hashes(scans: pd.DataFrame) -> pd.DataFrame:
    return _columns(scans, ["subject_id", "person_id"]).map(_hash, na_action="ignore")


def _image_hashes(scans: pd.DataFrame) -> pd.DataFrame:
    return _columns(scans, ["image_hash", "volume_hash"]).map(lambda text: text[:DIGITS], na_action="ignore")


def _columns(scans: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return scans[[name for name in names if name in scans]]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
