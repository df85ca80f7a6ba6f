"""One measured number, and how it is measured: the median of repetitions, on a stated number of threads."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

OURS, REFERENCE = "neuro_ssl", "reference"


@dataclass(frozen=True)
class Measurement:
    """One row of the benchmark's table.

    Attributes:
        part: `loader`, `views`, `step`, `loss` or `end_to_end`.
        what: which of the part's variants.
        side: `neuro_ssl` or `reference`, the paper's way.
        seconds: median of the repetitions, a `unit`.
        unit: `scan`, `pair` or `call`.
        low, high: the smallest and largest repetition, in seconds.
        repetitions: how many there were.
        peak_mb: extra memory at the peak, in MB, where it was measured.
        waiting: share of the time that training waited for data, where it was measured.
    """

    part: str
    what: str
    side: str
    seconds: float
    unit: str
    low: float
    high: float
    repetitions: int
    peak_mb: float | None = None
    waiting: float | None = None


def measure(
    function: Callable[[], Any], *, units: int = 1, min_seconds: float = 1.0, device: str = "cpu", least: int = 5
) -> dict[str, Any]:
    """Call a function over and over, after one call that doesn't count.

    Args:
        function: what to measure; it may do something else each time.
        units: how many scans or pairs one call does.
        min_seconds: for how long, in all.
        device: what to wait for, before each look at the clock.
        least: repetitions at the least.

    Returns:
        `seconds`, `low`, `high` a unit and `repetitions`, as `Measurement` takes them.
    """
    times: list[float] = []
    function()
    while len(times) < least or sum(times) < min_seconds:
        times.append(seconds_of(function, device))
    each = [seconds / units for seconds in times]
    return {
        "seconds": statistics.median(each),
        "low": min(each),
        "high": max(each),
        "repetitions": len(each),
    }


def seconds_of(function: Callable[[], Any], device: str = "cpu") -> float:
    """Of one call, on a GPU until it has finished."""
    start = now(device)
    function()
    return now(device) - start


def now(device: str) -> float:
    """The clock in seconds, on a GPU once it has done all it was told to."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
