"""Other divisions than the one on file, made of it for one training: folds, a site left out, a fraction of the labels.

Each is a function of the manifest and its own seed, so that every run, process and machine makes the same; a run keeps
what it used in `splits.csv`. A scan without a split takes no part. Pretraining and fine-tuning of one evaluation need
the same division, or the encoder has seen whom it is judged on, which `leakage` finds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import pandas as pd

from neuro_ssl.data.dataset import code_text
from neuro_ssl.data.splits import folds, persons, walk
from neuro_ssl.data.tabular import missing_column
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError


class Division(Protocol):
    """Gives every scan of a manifest a split, or none."""

    def __call__(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """The manifest with the column `split` anew."""


@dataclass(frozen=True)
class StoredSplit:
    """The split on file, which preprocessing made."""

    def __call__(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """The manifest as it is."""
        return manifest

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class TrainOnTest:
    """The split on file, but the test subjects are trained on too: the overlap of papers that pretrain on whole cohorts
    and evaluate on one of them. Evaluating these subjects with such weights is leakage, see `neuro_ssl.data.leakage`.
    """

    def __call__(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """The manifest with train in place of test."""
        return manifest.assign(split=manifest["split"].mask(manifest["split"] == "test", "train"))

    def __str__(self) -> str:
        return "test subjects are trained on too"


@dataclass(frozen=True)
class KFold:
    """One fold of a cross-validation, stratified, by person.

    A person's fold depends on the persons that are divided and on the seed alone. If others join, their folds keep
    nearly all (see `splits.folds`), not all: finish a cross-validation on one version of a cohort.

    Args:
        fold: which one is held out, from 0.
        n_folds: how many.
        repeat: number of the repetition, each of which divides anew.
        held_out: val: the fold is the validation split and the test split on file stays; test: all persons are
            divided, the fold is the test split, the next one the validation split.
        stratify: columns to balance together, see `splits.assign_splits`.
        seed: of the division.

    Raises:
        InputError: no such fold, or too few of them.
    """

    fold: int = 0
    n_folds: int = 5
    repeat: int = 0
    held_out: Literal["val", "test"] = "val"
    stratify: list[str] = field(default_factory=lambda: ["sex", "age_years"])
    seed: int = 0

    def __post_init__(self) -> None:
        fewest = 3 if self.held_out == "test" else 2
        if self.n_folds < fewest:
            raise InputError(f"split.n_folds must be at least {fewest}, got {self.n_folds}")
        if not 0 <= self.fold < self.n_folds:
            raise InputError(f"split.fold must be from 0 to {self.n_folds - 1}, got {self.fold}")
        if self.repeat < 0:
            raise InputError(f"split.repeat must be at least 0, got {self.repeat}")

    def __call__(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """The manifest with the splits of this fold.

        Raises:
            InputError: fewer persons than folds.
        """
        person = persons(manifest)
        divided = pd.Series(True, index=manifest.index)
        if self.held_out == "val":  # whoever has a scan in the test split belongs to it whole
            divided = ~person.isin(person[manifest["split"] == "test"]) & manifest["split"].notna()
        subjects = manifest[divided].groupby(person[divided]).first()
        fold = person.map(folds(subjects, self.n_folds, self.stratify, f"{self.seed} {self.repeat}"))
        split = manifest["split"].where(~divided, "train").mask(divided & (fold == self.fold), self.held_out)
        if self.held_out == "test":
            split = split.mask(fold == (self.fold + 1) % self.n_folds, "val")
        else:
            split = split.where(divided | split.isna(), "test")
        return manifest.assign(split=split)

    def __str__(self) -> str:
        repeat = f" of repetition {self.repeat}" if self.repeat else ""
        return f"{self.held_out} = fold {self.fold} of 0–{self.n_folds - 1}{repeat}"


@dataclass(frozen=True)
class LeaveSiteOut:
    """Test on one site, train on the others: whoever was seen there is in no other split.

    Persons of other sites stay in train or val as on file, and those of their test split are trained on. Of a person
    who was seen at the site and elsewhere, the scans from elsewhere take no part; nor do scans of an unknown site.

    Args:
        site: its name in the column.
        column: such as site, scanner or cohort.
        tested: all: everybody there; test_split: those of the test split on file alone, and of other sites nobody of
            the test split is trained on, so that an encoder that was pretrained on the training split can be judged.
    """

    site: str | int | None = None
    column: str = "site"
    tested: Literal["all", "test_split"] = "all"

    def __call__(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """The manifest with the site's scans as the test split.

        Raises:
            InputError: no such column or site.
        """
        if self.column not in manifest:
            raise missing_column(self.column, manifest.columns, "split.column: the manifest")
        site = manifest[self.column].map(code_text, na_action="ignore")
        if self.site is None or code_text(self.site) not in set(site):
            there = ", ".join(f"{name} ({n} scans)" for name, n in site.value_counts().sort_index().items())
            raise InputError(f"split.site={self.site}: no such {self.column}; there are {there or 'none'}")
        person = persons(manifest)
        here = site == code_text(self.site)
        on_file, seen_here = manifest["split"], person.isin(person[here]) | site.isna()
        if self.tested == "all":
            return manifest.assign(split=on_file.where(on_file != "test", "train").mask(seen_here).mask(here, "test"))
        in_test = on_file == "test"
        return manifest.assign(split=on_file.mask(seen_here | in_test).mask(here & in_test, "test"))

    def __str__(self) -> str:
        return f"{self.column} {self.site} left out{'' if self.tested == 'all' else ', its test subjects tested'}"


@dataclass(frozen=True)
class LabelFraction:
    """A fraction of the training subjects, for learning curves: the 10 % lie within the 20 %.

    Val and test stay. Every class, or fifth of a number, gives the same fraction of its subjects to within one, and at
    least one if there are enough; their order is by a hash, the same for every fraction.

    Args:
        fraction: of the training persons that have a label.
        target: column of the label.
        leave_out: labels that don't count.
        seed: of the order.

    Raises:
        InputError: a fraction that is none.
    """

    fraction: float
    target: str
    leave_out: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"label_fraction must be above 0 and at most 1, got {self.fraction:g}")

    def __call__(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """The manifest without a split for the training persons that are left out.

        Raises:
            InputError: no such column.
        """
        if self.fraction == 1:
            return manifest
        if self.target not in manifest:
            raise missing_column(self.target, manifest.columns, "label_fraction: the manifest")
        person, train = persons(manifest), manifest["split"] == "train"
        label = manifest[self.target]
        labelled = train & label.notna() & ~label.map(code_text).isin(self.leave_out)
        stratum = walk(label[labelled].groupby(person[labelled]).first().to_frame(), [self.target], self.seed, 1)
        place = stratum.groupby(stratum).cumcount() / stratum.map(stratum.value_counts())
        kept = place.sort_values(kind="stable").index[: math.ceil(self.fraction * len(place) - 1e-9)]
        return manifest.assign(split=manifest["split"].mask(train & ~person.isin(kept)))

    def __str__(self) -> str:
        return "" if self.fraction == 1 else f"{100 * self.fraction:g} % of the training subjects"


def divide(
    volumes: Volumes, split: Division, label_fraction: float, labels: tuple[str, Sequence[str] | None] | None, seed: int
) -> tuple[Any, dict[str, Any]]:
    """The same volumes, divided in another way.

    Args:
        volumes: as preprocessing divided them.
        split: how to divide them.
        label_fraction: see `LabelFraction`, as seed.
        labels: column of the label, and labels that don't count; None for pretraining.
        seed: which of the training subjects.

    Returns:
        The volumes; and what a run records of them, `Volumes.summary` and the division's name, empty for that on file.

    Raises:
        InputError: it cannot be done.
    """
    if labels is None and label_fraction != 1:
        raise InputError(f"label_fraction={label_fraction:g}: pretraining has no labels; leave it at 1")
    target, leave_out = labels or ("", None)
    divisions: tuple[Division, ...] = (split, LabelFraction(label_fraction, target, leave_out or (), seed))
    manifest = volumes.manifest
    try:
        for division in divisions:
            manifest = division(manifest)
    except InputError as error:
        raise InputError(f"{volumes.path}: {error}") from error
    changed: Any = volumes
    store = volumes if manifest is volumes.manifest else replace(changed, manifest=manifest)
    return store, {**store.summary, "split": ", ".join(filter(None, map(str, divisions)))}
