"""Which encoders there are: the files of `conf/encoder`, as plain data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from neuro_ssl.errors import InputError
from neuro_ssl.files import CONF_DIR
from neuro_ssl.modules import build_module


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder that `encoder=` names.

    Attributes:
        name: what `encoder=` takes.
        description: what it is, in words.
        embed_dim: number of features; None if the package that it is made of is not installed.
        parameters: how many; None likewise.
        config: its class (`_target_`) and all its settings.
    """

    name: str
    description: str
    embed_dim: int | None
    parameters: int | None
    config: dict[str, Any]


def list_encoders() -> list[EncoderInfo]:
    """The encoders of this package, by name; without weights, which take no memory here."""
    return [_described(file) for file in sorted(Path(CONF_DIR, "encoder").glob("*.yaml"))]


def _described(file: Path) -> EncoderInfo:
    text = file.read_text(encoding="utf-8")
    title = text.partition("\n")[0].removeprefix("# ").partition(": ")[0]  # "# what it is: features, parameters"
    config = yaml.safe_load(text)
    try:
        with torch.device("meta"):
            encoder = build_module(config)
    except InputError:  # its extra is not installed, which None says
        return EncoderInfo(file.stem, title, None, None, config)
    n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return EncoderInfo(file.stem, title, int(encoder.embed_dim), n_parameters, config)  # type: ignore[arg-type]
