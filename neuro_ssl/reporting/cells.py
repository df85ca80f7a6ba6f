"""Scores as text, and tables of text."""

import math

from neuro_ssl.evaluation.bootstrap import Score


def over_seeds(score: Score) -> str:
    """` seeds [4.30, 6.01]`; empty without an interval."""
    return "" if math.isnan(score.low) else f" seeds [{score.low:z.2f}, {score.high:z.2f}]"


def format_score(score: Score) -> str:
    """`5.12 [4.30, 6.01]`; n/a where undefined."""
    if math.isnan(score.value):
        return "n/a"
    value, low, high = (f"{x:z.2f}" for x in (score.value, score.low, score.high))  # z: 0.00, not -0.00
    return value if math.isnan(score.low) else f"{value} [{low}, {high}]"


def padded(rows: list[list[str]]) -> str:
    """A Markdown table that is aligned as it stands; the first row is its header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )
