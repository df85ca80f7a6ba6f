"""What a model is fitted to and tested on.

    test               the split on file
    cross_validation   repeated, nested, by person: every scan is tested once a repetition; for small cohorts
    leave_site_out     every site's part of that test split, by a model of the other sites: the same people, out of
                       distribution
    any other name     a cohort: all of it is tested, by a model of this cohort's training split

The validation split of a fold chooses thresholds, epochs and the correction of an age gap; nothing else of a fold is
seen before its test scans are predicted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from neuro_ssl.data.dataset import code_text
from neuro_ssl.data.protocols import Division, KFold, LabelFraction, LeaveSiteOut, StoredSplit
from neuro_ssl.data.tabular import missing_column
from neuro_ssl.data.targets import Target
from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.training import option

ON_FILE, CROSS_VALIDATION, LEAVE_SITE_OUT = "test", "cross_validation", "leave_site_out"


@dataclass(frozen=True)
class CrossValidation:
    """How small cohorts are divided.

    Args:
        n_folds: of each repetition.
        n_repeats: how often all is divided anew.
        seed: of the divisions.
    """

    n_folds: int = 5
    n_repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_repeats < 1:
            raise InputError(f"cross_validation.n_repeats must be at least 1, got {self.n_repeats}")


@dataclass(frozen=True)
class Fold:
    """One division of the scans.

    Attributes:
        test_set: see above.
        split: train, val, test or none of each scan, by `scan_id`. Without test if another cohort is tested.
        options: the same division as options of the command `train`.
        repeat: of the cross-validation.
        number: of the fold; None where there is one alone.
    """

    test_set: str
    split: pd.Series
    options: tuple[str, ...] = ()
    repeat: int = 0
    number: int | None = None

    @property
    def other_cohort(self) -> bool:
        """Whether the test scans are another cohort's."""
        return self.test_set not in (ON_FILE, CROSS_VALIDATION, LEAVE_SITE_OUT)

    @property
    def name(self) -> str:
        """In messages."""
        of_options = ", ".join(o for o in self.options if o.startswith(("split.site", "split.fold", "split.repeat")))
        return f"{self.test_set} ({of_options})" if of_options else self.test_set

    def with_fraction(self, fraction: float, target: Target, scans: pd.DataFrame, seed: int) -> pd.Series:
        """The split with a share of the labelled training persons alone, see `LabelFraction`."""
        keep = LabelFraction(fraction, target.target, target.leave_out, seed)
        divided: pd.Series = keep(scans.assign(split=self.split.reindex(scans["scan_id"]).to_numpy()))["split"]
        return divided.set_axis(scans["scan_id"])


def folds(test_set: str, scans: pd.DataFrame, target: Target, cross_validation: CrossValidation) -> list[Fold]:
    """The folds of a test set.

    Args:
        test_set: see above.
        scans: the cohort's manifest.
        target: what is predicted; cross-validation balances it.
        cross_validation: its settings.

    Raises:
        InputError: it can't be divided so.
    """
    return [
        Fold(test_set, division(scans)["split"].set_axis(scans["scan_id"]), options, repeat, number)
        for division, options, repeat, number in _divisions(test_set, scans, target, cross_validation)
    ]


def _divisions(
    test_set: str, scans: pd.DataFrame, target: Target, settings: CrossValidation
) -> Iterator[tuple[Division, tuple[str, ...], int, int | None]]:
    if test_set == CROSS_VALIDATION:
        stratify = list(dict.fromkeys([target.target, "sex", "age_years"]))
        for repeat in range(settings.n_repeats):
            for fold in range(settings.n_folds):
                options = {"fold": fold, "n_folds": settings.n_folds, "repeat": repeat, "held_out": "test"}
                options |= {"stratify": stratify, "seed": settings.seed}
                kfold = KFold(fold, settings.n_folds, repeat, "test", stratify, settings.seed)
                yield (
                    kfold,
                    ("split=kfold", *(option(f"split.{key}", value) for key, value in options.items())),
                    repeat,
                    fold,
                )
    elif test_set == LEAVE_SITE_OUT:
        if "site" not in scans:
            raise missing_column("site", scans.columns, "test_sets=[leave_site_out]: the manifest")
        sites = sorted(scans["site"].dropna().map(code_text).unique())
        if len(sites) < 2:
            raise InputError(f"test_sets=[leave_site_out]: the cohort has {len(sites)} site; two are needed")
        for number, site in enumerate(sites):
            named = (option("split.site", site), "split.tested=test_split")
            yield LeaveSiteOut(site, tested="test_split"), ("split=leave_site_out", *named), 0, number
    else:
        yield StoredSplit(), (), 0, None
