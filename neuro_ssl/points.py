"""What becomes of a sweep's points: one file each in the sweep's folder, for its table, reports, and the exit status.

    points/0.json   {"overrides": ["seed=0"], "status": "finished", "run": "../../linear_probe-…", "reason": null}

A point that was killed is still said to be running: nobody was there to say otherwise.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neuro_ssl.errors import InputError
from neuro_ssl.files import appearing
from neuro_ssl.processes import launched_rank

FOLDER = "points"
SWEEP = "NEURO_SSL_SWEEP"  # environment variable: the folder of the sweep that this process works on a point of
Status = Literal["running", "finished", "failed", "pruned"]


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        sweep: the sweep's folder.
        number: of the point, from 0.
        overrides: its settings, as on the command line.
        status: what became of it.
        run: its run directory, once it is known.
        reason: of a failure.
    """

    sweep: Path
    number: int
    overrides: list[str] = field(default_factory=list)
    status: Status = "running"
    run: Path | None = None
    reason: str | None = None

    @property
    def _file(self) -> Path:
        return self.sweep / FOLDER / f"{self.number}.json"

    def note(self, **changes: Any) -> None:
        """Write these attributes; what else is on file stays. Of a point's processes the first one does.

        Raises:
            InputError: the file cannot be written.
        """
        if launched_rank():
            return
        of_its_own = {"overrides": self.overrides, "status": self.status, "run": None, "reason": None}
        before = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else of_its_own
        if run := changes.get("run"):
            changes["run"] = os.path.relpath(run, self.sweep)  # the two may move together
        with appearing(self._file) as temporary:
            temporary.write_text(json.dumps(before | changes), encoding="utf-8")

    def forget(self) -> None:
        """Another point takes its place."""
        self._file.unlink(missing_ok=True)


def read_points(sweep: Path) -> list[Point]:
    """The points that began, in their order; none if the folder is not a sweep's.

    Raises:
        InputError: a file is damaged.
    """
    points = []
    for file in sorted((sweep / FOLDER).glob("*.json"), key=lambda file: int(file.stem)):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            run = Path(os.path.normpath(sweep / record.pop("run"))) if record["run"] else record.pop("run")
            points.append(Point(sweep, int(file.stem), run=run, **record))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file} is damaged ({error}); delete it, and start its sweep again") from error
    return points
