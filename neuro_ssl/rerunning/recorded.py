"""A run as its record tells it, and what of that a repetition needs to be told anew: places, and what is not to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuro_ssl.errors import InputError
from neuro_ssl.hub import SCHEME
from neuro_ssl.rerunning.circumstances import DATA
from neuro_ssl.run import RunDirectory

NEEDED = ("stage", "task", "dataset", "encoder", "versions", "commit", "dirty", "hardware", "config")
UNFINISHED = {"pruned": "was pruned by a search", "running": "is unfinished"}


@dataclass(frozen=True)
class Recorded:
    """A finished run.

    Attributes:
        path: its directory.
        record: its `run.yaml`.
    """

    path: Path
    record: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Recorded":
        """Read a run that can be repeated.

        Raises:
            InputError: no run, an unfinished one, or one of a version that recorded too little.
        """
        run = RunDirectory(path)
        record = run.record
        if not record:
            raise InputError(f"{path} is not a run directory: expected a folder with a run.yaml in it")
        if not run.finished:
            how = UNFINISHED.get(str(record.get("status")), "is unfinished")
            raise InputError(f"{path} {how}; start its command again, which goes on with it, and then repeat it")
        if missing := [key for key in NEEDED if key not in record]:
            raise InputError(f"{path / 'run.yaml'} lacks {', '.join(missing)}, without which it cannot be repeated")
        return cls(path, record)

    @property
    def name(self) -> str:
        """Of the run."""
        return str(self.record.get("name", self.path.resolve().name))

    @property
    def threads(self) -> dict[str, int]:
        """How many threads its process had, on which last digits depend; of several processes, Lightning shares out."""
        machine = self.record["hardware"]
        return {"threads": machine["threads"]} if "threads" in machine and machine.get("processes") == 1 else {}

    @property
    def data(self) -> dict[str, Any]:
        """What its record says of its scans and their splits."""
        return self.of_data(self.record["dataset"])

    @property
    def weights(self) -> dict[str, Any]:
        """What its record says of the weights that it began with."""
        name = (self.record.get("weights") or {}).get("name")
        hashed = {"weights_hash": self.record["weights_hash"]} if "weights_hash" in self.record else {}
        return {"weights": name, **hashed} if name else {}

    @staticmethod
    def of_data(summary: Mapping[str, Any]) -> dict[str, Any]:
        """Of a dataset's summary, what tells its content, wherever it lies."""
        return {key: summary[key] for key in DATA if key in summary} | {"volumes": summary.get("volumes", "as written")}

    @property
    def config(self) -> dict[str, Any]:
        """Its resolved configuration, but for what a repetition must not do again.

        That is to look at a test split that stayed closed, and to find anew how many scans a device holds.
        """
        config: dict[str, Any] = {**self.record["config"], "rerun_of": self.name}
        if self.record["stage"] == "downstream":
            config["open_test"] = bool(self.record.get("test_opened", (self.path / "results.json").exists()))
        if config.get("micro_batch_size") == "auto":
            config["micro_batch_size"] = self.record.get("micro_batch_size")
        return config

    def placed(self, config: dict[str, Any]) -> dict[str, Any]:
        """A configuration with the places where its data and weights lie now.

        Relative ones are looked for from here, then from the folder that the run was started in, as far as its own
        place tells that; weights also beside the run, with which they may have moved.
        """
        data_dir = self._found(config["data_dir"])
        recorded = str(self.record["config"]["data_dir"])
        dataset = {key: _moved(value, recorded, data_dir) for key, value in config["dataset"].items()}
        dataset |= {key: self._found(dataset[key]) for key in ("root", "table") if dataset.get(key)}
        weights = config["weights"]
        if weights and not weights.startswith(SCHEME):
            weights = self._found(weights, self.path.resolve().parent / Path(weights).name)
        return config | {"data_dir": data_dir, "dataset": dataset, "weights": weights}

    def notes(self, rerun: Mapping[str, Any]) -> list[str]:
        """What to know of a difference, or of what has not been repeated.

        Args:
            rerun: record of the repetition.
        """
        config, notes = self.record["config"], []
        machines = [record["hardware"] for record in (self.record, rerun)]
        if any(machine["gpus"] for machine in machines) and not config["trainer"].get("deterministic"):
            notes.append("trainer.deterministic=false: on GPUs a run need not repeat bit for bit")
        precision = str(config["trainer"].get("precision"))
        if precision.startswith("bf16") and not all(machine["gpus"] for machine in machines):
            notes.append(f"trainer.precision={precision} on the CPU: gradients may be wrong there, each time otherwise")
        for name in ("processes", "threads", "vectors"):
            before, after = (machine.get(name) for machine in machines)
            if None not in (before, after) and before != after:
                notes.append(
                    f"{name} {before} → {after}: sums are added up in another order, which shows in last digits"
                )
        if not self.record["commit"] and not rerun["commit"]:
            notes.append("both by installed packages, of which no commit is known: equal versions can be other code")
        if self.record["dirty"]:
            notes.append("the original was made with uncommitted changes: its commit doesn't identify the code")
        if config.get("micro_batch_size") == "auto":
            notes.append(f"micro_batch_size=auto: {self.record.get('micro_batch_size')}, as the original found")
        if self.record["stage"] == "downstream" and not rerun["config"]["open_test"]:
            notes.append("the test split stayed closed, as in the original")
        return notes

    def _found(self, place: str, beside: Path | None = None) -> str:
        started_in = self._started_in()
        tried = [Path(place), *([started_in / place] if started_in else []), *([beside] if beside else [])]
        return str(next((one for one in tried if one.exists()), tried[0]).absolute())

    def _started_in(self) -> Path | None:
        """The folder that the run was started in, where its directory ends as its runs_dir says."""
        runs_dir, here = Path(self.record["config"]["runs_dir"]), self.path.resolve().parent
        n = len(runs_dir.parts)
        if runs_dir.is_absolute() or here.parts[-n:] != runs_dir.parts:
            return None
        return here.parents[n - 1] if n else here


def _moved(value: Any, before: str, after: str) -> Any:
    """A setting with another folder in place of the one that it begins with."""
    if isinstance(value, str) and (value == before or value.startswith(f"{before.rstrip('/')}/")):
        return after + value[len(before.rstrip("/")) :]
    return value
