"""In which keys configurations differ."""

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "–"  # shown where a configuration lacks a key


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted keys: `{"optimizer.learning_rate": 0.001, …}`; lists stay whole."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The dotted keys in which not all configurations are equal, with each one's value as text.

    Args:
        configs: nested.

    Returns:
        By key, in the order in which the configurations have them, one text a configuration.
    """
    flats = [flat(config) for config in configs]
    keys = dict.fromkeys(key for values in flats for key in values)
    shown = {key: [str(values[key]) if key in values else MISSING for values in flats] for key in keys}
    return {key: texts for key, texts in shown.items() if len(set(texts)) > 1}
