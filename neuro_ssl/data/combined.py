"""Several preprocessed cohorts as one, such as the eleven that the paper pretrains on.

Nothing is copied: the cohorts' stores stay where they are, and a volume is named by its path from the folder of all
stores. Subject ids carry their cohort already, and scan ids get it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuro_ssl.data.checks import check_volumes
from neuro_ssl.data.dataset import Dataset
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.errors import InputError


class CombinedStore(VolumeStore):
    """The stores of several cohorts; `path` is the folder that holds them all."""

    @property
    def summary(self) -> dict[str, Any]:
        """What a run records of its data, with what each cohort's store is."""
        return {**super().summary, "cohorts": dict(self.info["cohorts"])}


@dataclass(frozen=True, kw_only=True)
class CombinedDataset(Dataset):
    """Cohorts that were preprocessed in the same way, each by itself.

    Args:
        cohort: see `Dataset`, as root (which nothing here needs), grid and stores_dir.
        cohorts: names of cohorts with a store; a shorter list is as good.
    """

    cohorts: Sequence[str] = ()

    @property
    def simulated(self) -> bool:
        """Only the stores know, see `CombinedStore`."""
        return False

    def scans(self) -> pd.DataFrame:
        """A combination is not preprocessed.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"dataset {self.name} consists of cohorts that are preprocessed one by one: "
            f"dataset=NAME dataset.root=… for each NAME of {', '.join(self.cohorts)}"
        )

    def open(self, grid: str) -> CombinedStore:
        """What training reads, checked.

        Raises:
            InputError: no cohorts, one twice, stores that are missing (all of them in one message), damaged, or
                preprocessed in different ways.
        """
        if not self.cohorts:
            raise InputError("dataset.cohorts: name the cohorts to put together")
        repeated = {name for name in self.cohorts if list(self.cohorts).count(name) > 1}
        if repeated:
            raise InputError(f"dataset.cohorts: {', '.join(sorted(repeated))} is there twice; name each cohort once")
        stores, problems = {}, {}
        for name in self.cohorts:
            try:
                stores[name] = VolumeStore.find(Path(self.stores_dir) / name, grid)
            except InputError as error:
                problems[name] = str(error)
        if problems:
            there = f"dataset.cohorts='[{','.join(stores)}]'" if stores else "fewer dataset.cohorts"
            raise InputError(
                f"{len(problems)} of {len(self.cohorts)} cohorts cannot be read on grid {grid}; preprocess them, or "
                f"train on {there}\n" + "\n".join(f"  {name}: {why}" for name, why in problems.items())
            )
        self._check_equal(stores)
        for store in stores.values():
            check_volumes(store)
        return self._combined(stores)

    def _check_equal(self, stores: dict[str, VolumeStore]) -> None:
        (first, reference), *others = stores.items()
        for name, store in others:
            if store.grid != reference.grid:
                raise InputError(
                    f"cohorts {first} and {name} are on different grids, {reference.path.name} and {store.path.name}"
                )
            theirs, ours = reference.info["preprocessing"], store.info["preprocessing"]
            different = [key for key in theirs | ours if theirs.get(key) != ours.get(key)]
            if different or store.info["preprocessing_hash"] != reference.info["preprocessing_hash"]:
                key = different[0] if different else "preprocessing_hash"
                raise InputError(
                    f"cohorts {first} and {name} were preprocessed in different ways: {key} is {theirs.get(key)} and "
                    f"{ours.get(key)}; preprocess one of them as the other, or leave it out of dataset.cohorts"
                )

    def _combined(self, stores: dict[str, VolumeStore]) -> CombinedStore:
        manifests = [
            store.manifest.assign(
                scan_id=f"{name}_" + store.manifest["scan_id"],
                volume=f"{name}/{store.path.name}/" + store.manifest["volume"],
            )
            for name, store in stores.items()
        ]
        manifest = pd.concat(manifests, ignore_index=True)
        excluded = {f"{name}_{scan}": why for name, store in stores.items() for scan, why in store.excluded.items()}
        hashes = {name: store.info["manifest_hash"] for name, store in stores.items()}
        combined = hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()[:16]
        info = {
            **next(iter(stores.values())).info,
            "cohort": self.name,
            "simulated": any(store.simulated for store in stores.values()),
            "manifest_hash": combined,
            "cohorts": hashes,
        }
        return CombinedStore(Path(self.stores_dir), info, manifest, excluded)
