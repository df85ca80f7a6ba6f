"""A run beside its repetition: a table for people, and the same for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuro_ssl.files import appearing
from neuro_ssl.rerunning.circumstances import UNKNOWN, Difference
from neuro_ssl.rerunning.outcome import Finding

MARKS = {True: "same", False: "differs", None: "missing"}


@dataclass(frozen=True)
class Verdict:
    """A run and its repetition.

    Attributes:
        original: the run's directory.
        rerun: that of its repetition.
        before: in what they differ before the first step, by heading.
        findings: what came of them.
        notes: what may explain a difference, or has not been repeated.
    """

    original: Path
    rerun: Path
    before: dict[str, list[Difference]]
    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def same(self) -> bool:
        """Whether all that both have is the same."""
        return not any(finding.same is False for finding in self.findings)

    def __str__(self) -> str:
        """A few lines for a terminal."""
        told = "the same" if self.same else "NOT the same"
        lines = [f"{self.original} and its rerun {self.rerun}: {told}"]
        lines += listed(self.before)
        width = max(len(finding.what) for finding in self.findings) + 2
        lines += [f"  {finding.what:<{width}}{MARKS[finding.same]}: {finding.told}" for finding in self.findings]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    @property
    def markdown(self) -> str:
        """The same as Markdown."""
        lines = [
            f"# Rerun of {self.original.name}",
            "",
            f"Original: `{self.original}`",
            "",
            f"Rerun: `{self.rerun}`",
            "",
        ]
        lines += ["| result | | |", "|---|---|---|"]
        lines += [f"| {f.what} | {MARKS[f.same]} | {f.told} |" for f in self.findings]
        rows = [(heading, difference) for heading, found in self.before.items() for difference in found]
        if rows:
            lines += ["", "| before the first step | | original | rerun |", "|---|---|---|---|"]
            lines += [f"| {heading} | {one.what} | {one.before} | {one.after} |" for heading, one in rows]
        else:
            lines += ["", f"Nothing differed before the first step: {', '.join(self.before)}."]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([*lines, ""])

    def write(self) -> None:
        """Put `rerun.md` and `rerun.json` into the repetition's folder.

        Raises:
            InputError: they cannot be written.
        """
        facts: dict[str, Any] = {"same": self.same, **asdict(self)}
        for name, text in (("rerun.md", self.markdown), ("rerun.json", json.dumps(facts, indent=2, default=str))):
            with appearing(self.rerun / name) as file:
                file.write_text(text, encoding="utf-8")


def listed(before: dict[str, list[Difference]]) -> list[str]:
    """What differs before the first step, a line each; of what doesn't, the headings in one."""
    rows = [(heading, one) for heading, found in before.items() for one in found]
    known = [(heading, one) for heading, one in rows if one.before != UNKNOWN]
    alike = [heading for heading in before if heading not in dict(rows)]
    lines = [f"  as it was: {', '.join(alike)}"] if alike else []
    lines += [f"  {heading}: {one.what} {one.before} → {one.after}" for heading, one in known]
    unknown = [one.what for _, one in rows if one.before == UNKNOWN]
    return lines + [f"  not recorded then: {', '.join(unknown)}"] * bool(unknown)
