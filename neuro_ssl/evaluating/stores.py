"""The volumes that models are given: of a cohort and of others, on each grid that some encoder asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuro_ssl.data.checks import check_volumes
from neuro_ssl.data.dataset import Dataset
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.training import run_command


class Stores:
    """Opens each grid once.

    Args:
        dataset: the cohort that models are fitted to.
        others: names of cohorts that they are tested on too, whose stores lie beside.
        prepare: options of the command `preprocess` that make what is missing of the first; None: don't.
    """

    def __init__(self, dataset: Dataset, others: Sequence[str], prepare: Sequence[str] | None) -> None:
        self.dataset, self.others, self.prepare = dataset, others, prepare
        self._open: dict[str, Mapping[str, Volumes]] = {}

    def open(self, grid: str) -> Mapping[str, Volumes]:
        """The volumes of each cohort on a grid, by the cohort's name; of the first cohort first.

        Raises:
            InputError: a store that is not there, or damaged.
        """
        if grid not in self._open:
            own = self._own(grid)
            others = {name: self._other(name, grid) for name in self.others}
            self._open[grid] = {own.cohort: own, **others}
        return self._open[grid]

    def _own(self, grid: str) -> Volumes:
        if self.prepare is None or self._there(grid):
            return self.dataset.open(grid)
        try:
            return self.dataset.open(grid)  # registered images need no store
        except InputError:
            run_command("preprocess", [f"grid={grid}", *self.prepare])
        return self.dataset.open(grid)

    def _there(self, grid: str) -> bool:
        names = [file.parent.name for file in self.dataset.store_dir.glob("*/store.json")]
        return any(grid in (name, name.rpartition("-")[0]) for name in names)

    def _other(self, cohort: str, grid: str) -> VolumeStore:
        folder = Path(self.dataset.stores_dir) / cohort
        if not folder.is_dir():
            there = sorted(path.name for path in folder.parent.glob("*/") if path.name != self.dataset.name)
            raise InputError(
                f"test_sets: {cohort} is neither test, cross_validation or leave_site_out nor a cohort in "
                f"{folder.parent}; there are {', '.join(there) or 'none'}"
            )
        store = VolumeStore.find(folder, grid)
        check_volumes(store)
        return store


def grid_option(volumes: Volumes) -> str:
    """The option of `train` and `embed` that names these volumes."""
    return f"grid={volumes.path.name if isinstance(volumes, VolumeStore) else volumes.grid.name}"
