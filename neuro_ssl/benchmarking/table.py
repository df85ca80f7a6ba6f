"""The benchmark's results as a table: on screen, as Markdown and as JSON."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuro_ssl.benchmarking.measurement import OURS, REFERENCE, Measurement
from neuro_ssl.files import appearing

HEADER = ["part", "what", "side", "seconds", "range", "extra MB", "waiting"]


def ratios(rows: Sequence[Measurement]) -> list[str]:
    """How many times faster ours is, one line for each comparison that these rows allow.

    Args:
        rows: of any parts.
    """

    def seconds(part: str, side: str, what: str = "") -> float | None:
        found = [row.seconds for row in rows if (row.part, row.side) == (part, side) and what in row.what]
        return found[0] if found else None

    load, their_load = seconds("loader", OURS), seconds("loader", REFERENCE)
    views, their_views = seconds("views", OURS, "kaczmarek2025"), seconds("views", REFERENCE)
    lines = []
    if load and their_load:
        lines.append(f"reading a scan: {their_load / load:.1f}× less time on a core")
    if views and their_views:
        lines.append(f"two views, the paper's: {their_views / views:.1f}× less time")
    if load and their_load and views and their_views:
        lines.append(
            f"what loading costs a core, views on the device: {(their_load + their_views) / load:.0f}× less than the "
            "reference, which needs both"
        )
        lines.append(
            f"reading and two views, one after the other: {(their_load + their_views) / (load + views):.1f}× less"
        )
    lines += [line for ours in rows if (line := _against_its_pair(ours, rows))]
    whole, their_whole = seconds("end_to_end", OURS), seconds("end_to_end", REFERENCE)
    if whole and their_whole:
        lines.append(f"end to end: {their_whole / whole:.1f}× as many scans a second")
    return lines


def _against_its_pair(row: Measurement, rows: Sequence[Measurement]) -> str | None:
    """A loss of ours against the reference's, a gradient-cached step against the direct one."""
    if row.part == "loss" and row.side == OURS:
        for other in rows:
            if (other.part, other.what, other.side) == (row.part, row.what, REFERENCE):
                times, memory = other.seconds / row.seconds, (other.peak_mb or 0) / (row.peak_mb or 1)
                return f"loss, {row.what}: {times:.1f}× faster in {memory:.0f}× less memory"
    name, cached, _ = row.what.partition("gradient-cached")
    if row.part == "step" and cached:
        for other in rows:
            if (other.part, other.what) == ("step", f"{name}direct"):
                times, memory = row.seconds / other.seconds, (other.peak_mb or 0) / (row.peak_mb or 1)
                return f"step, {name}gradient-cached: {times:.2f}× the time of a direct one, {memory:.1f}× less memory"
    return None


def machine(environment: dict[str, Any], threads: int) -> str:
    """One line that says where and by what this was measured."""
    versions = ", ".join(f"{name} {environment['versions'][name]}" for name in ("torch", "monai", "lightning"))
    code = str(environment["commit"])[:10] + (", changed" if environment["dirty"] else "")
    gpus = ", ".join(environment["hardware"]["gpus"]) or "no GPU"
    cores = f"{environment['hardware']['cpus']} cores ({threads} threads)"
    return f"{_processor()}, {cores}, {gpus}; {versions}; commit {code}"


def cells(row: Measurement) -> list[str]:
    """A row of the table, as `HEADER` names its columns."""
    return [
        row.part,
        row.what,
        row.side,
        f"{row.seconds:.3g} a {row.unit}",
        f"{row.low:.3g}–{row.high:.3g}, n = {row.repetitions}",
        "" if row.peak_mb is None else f"{row.peak_mb:,.0f}",
        "" if row.waiting is None else f"{100 * row.waiting:.1f} %",
    ]


def markdown(rows: Sequence[Measurement], title: str) -> str:
    """The table and what follows from it.

    Args:
        rows: what was measured.
        title: the machine and the settings, in a line.
    """
    table = [HEADER, ["---"] * len(HEADER), *map(cells, rows)]
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([title, "", *lines, "", *(f"- {line}" for line in ratios(rows)), ""])


def text(rows: Sequence[Measurement]) -> str:
    """The table for a terminal."""
    table = [HEADER, *map(cells, rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)


def write(
    rows: Sequence[Measurement], environment: dict[str, Any], settings: dict[str, Any], title: str, folder: Path
) -> None:
    """Write `benchmark.md` and `benchmark.json`.

    Args:
        rows: what was measured.
        environment: of `environment.environment`.
        settings: the configuration.
        title: the machine and the settings, in a line.
        folder: where to.

    Raises:
        InputError: they cannot be written.
    """
    measurements = [asdict(row) for row in rows]
    content = {**environment, "settings": settings, "measurements": measurements, "ratios": ratios(rows)}
    for name, text in (("benchmark.json", json.dumps(content, indent=1)), ("benchmark.md", markdown(rows, title))):
        with appearing(folder / name) as file:
            file.write_text(text + "\n", encoding="utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
