"""Sweeps on the page: which setting does best on validation, and which points are missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuro_ssl.reporting.section import Section
from neuro_ssl.reporting.sweeps.reading import Sweep
from neuro_ssl.reporting.sweeps.table import Row, Table, tables
from neuro_ssl.reporting.sweeps.text import as_frame, cells, counted, markdown, notes, ranking, rest


@dataclass(frozen=True)
class Shown:
    """A table as the template needs it."""

    table: Table

    @property
    def heading(self) -> str:
        """Of what, and by what."""
        return f"{self.table.title}: {ranking(self.table)}"

    @property
    def columns(self) -> list[str]:
        """Of the table."""
        return cells(self.table)[0]

    @property
    def lines(self) -> list[tuple[Row, list[str]]]:
        """Each row with its cells."""
        return list(zip(self.table.rows, cells(self.table)[1:], strict=True))

    @property
    def notes(self) -> list[str]:
        """Below it."""
        return notes(self.table)


def sweep_sections(sweeps: Sequence[Sweep]) -> list[Section]:
    """The section of the page, if there is a sweep.

    Args:
        sweeps: those to show, in order.
    """
    sweeps = [sweep for sweep in sweeps if sweep.outcomes]
    if not sweeps:
        return []
    shown = [
        (sweep, counted(sweep), [Shown(table) for table in tables(sweep)], rest(sweep, shared=True)) for sweep in sweeps
    ]
    datasets = [
        outcome.record["dataset"] for sweep in sweeps for outcome in sweep.outcomes if outcome.status == "finished"
    ]
    simulated, real = (
        list(dict.fromkeys(dataset["cohort"] for dataset in datasets if dataset["simulated"] is wanted))
        for wanted in (True, False)
    )
    return [
        Section(
            "sweeps",
            "Sweeps",
            {"sweeps": shown},
            links=[(f"sweeps-{i}", sweep.folder.name) for i, sweep in enumerate(sweeps, start=1)],
            simulated=simulated,
            real=real,
            sources=[f"{len(sweeps)} sweep{'s' * (len(sweeps) > 1)}"],
            files={
                "sweeps.csv": as_frame(sweeps, shared=True).to_csv(index=False),
                "sweeps.md": "\n".join(markdown(sweep, shared=True) for sweep in sweeps),
            },
        )
    ]
