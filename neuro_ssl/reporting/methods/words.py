"""How the methods put numbers, lists and what isn't known."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


def unknown(what: str) -> str:
    """A gap for the author, since no record tells."""
    return f"[please add: {what}]"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(n: int, one: str, many: str | None = None) -> str:
    """`1 scan`, `2 scans`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def sentences(*parts: str) -> str:
    """A paragraph of those that say something."""
    return " ".join(part for part in parts if part)


def or_unknown(what: str) -> Callable[[Callable[P, str]], Callable[P, str]]:
    """Words that become a gap where the record lacks a setting, as those of other versions may.

    Args:
        what: is then to be added.
    """

    def decorate(words: Callable[P, str]) -> Callable[P, str]:
        @wraps(words)
        def told(*args: P.args, **kwargs: P.kwargs) -> str:
            try:
                return words(*args, **kwargs)
            except KeyError as missing:
                return unknown(f"{what}; {missing.args[0]} is not recorded")

        return told

    return decorate
