"""Others' published weights as encoders of this package: recognised by their keys, every tensor accounted for."""

import fnmatch
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuro_ssl.encoders.checkpoint_file import read_checkpoint
from neuro_ssl.encoders.layouts import LAYOUTS, Layout
from neuro_ssl.errors import InputError
from neuro_ssl.modules import build_module, first_names

PARALLEL = "module."
COUNTER = "num_batches_tracked"  # of batch norm, which nothing reads as long as its momentum is fixed
SAME = "another name of a tensor that is loaded"


@dataclass(frozen=True)
class Published:
    """An encoder's weights out of somebody's file.

    Attributes:
        layout: which kind of file it is.
        encoder: configuration of the encoder.
        state: its tensors.
        dropped: of the file's tensors that are left out, the name and why.
        filled: of the encoder's tensors that the file lacks, the name and what stands in.
    """

    layout: Layout
    encoder: dict[str, Any]
    state: dict[str, Tensor]
    dropped: dict[str, str] = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)

    def card(self, path: Path) -> dict[str, Any]:
        """What is known of them, ready for JSON; `path` is the file that they were read from."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "kind": self.layout.name,
            "title": self.layout.title,
            "encoder": self.encoder,
            "input": self.layout.contract(self.encoder).as_json(),
            "cohorts": list(self.layout.cohorts),
            "licence": self.layout.licence,
            "advice": self.layout.advice,
            "citation": self.layout.citation,
            "source": {"file": path.name, "sha256": digest},
            "dropped": self.dropped,
            "filled": self.filled,
        }


def import_published(path: Path, *, trust: bool = False, layout: str | None = None, **options: Any) -> Published:
    """Read the weights of others.

    Args:
        path: the file as it was downloaded, or what was extracted from it.
        trust: see `read_checkpoint`.
        layout: name of one of `LAYOUTS`, where keys don't tell.
        options: parameters of the encoder that the file doesn't settle, such as `pooling`.

    Raises:
        InputError: a file that cannot be read, that is none of these, or whose tensors don't fit.
    """
    wrapper, tensors = read_checkpoint(path, trust=trust)
    parallel = any(name.startswith(PARALLEL) for name in tensors)
    tensors = {name.removeprefix(PARALLEL): value for name, value in tensors.items()}
    found = _recognised(path, wrapper, parallel, tensors, layout)
    try:
        return _converted(found, tensors, options)
    except InputError as error:
        raise InputError(f"{path}, as {found.title}: {error}") from error


def _recognised(
    path: Path, wrapper: str | None, parallel: bool, tensors: Mapping[str, Tensor], name: str | None
) -> Layout:
    if name is not None:
        found = [layout for layout in LAYOUTS if layout.name == name]
        if not found:
            raise InputError(f"layout must be one of {', '.join(layout.name for layout in LAYOUTS)}, got {name!r}")
    else:
        found = [
            layout
            for layout in LAYOUTS
            if layout.wrapper in (None, wrapper)
            and layout.parallel in (None, parallel)
            and any(key.startswith(layout.mark) for key in tensors)
        ]
    if not found:
        known = ", ".join(layout.name for layout in LAYOUTS)
        raise InputError(
            f"{path}: its keys ({', '.join(list(tensors)[:3])}, …) are of no published weights known here ({known}); "
            "of a training run of this package, give the run directory"
        )
    return found[0]


def _converted(layout: Layout, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> Published:
    dropped = {name: reason for name in tensors if (reason := _reason_to_drop(layout, name)) is not None}
    own = {name.removeprefix(layout.prefix): value for name, value in tensors.items() if name not in dropped}
    encoder = layout.encoder(own)
    if unknown := set(options) - set(encoder):
        raise InputError(f"{', '.join(sorted(unknown))} is no choice of these weights")
    encoder |= options
    with torch.device("meta"):
        module = build_module(encoder)
    if layout.xyz:
        own = {name: _transposed(name, value) for name, value in own.items()}
    own = {layout.child + name: value for name, value in own.items()}
    expected, first = module.state_dict(), first_names(module)
    filled = {}
    for name, tensor in expected.items():
        if name not in own and name.endswith(COUNTER):
            own[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            filled[name] = "0, a counter that nothing reads"
    _check(own, expected, first)
    for name in own:
        if first[name] != name:
            if not torch.equal(own[name], own[first[name]]):
                raise InputError(f"{name} and {first[name]} are one tensor of the encoder, and differ in the file")
            dropped[layout.prefix + name.removeprefix(layout.child)] = SAME
    state = {name: value for name, value in own.items() if first[name] == name}
    return Published(layout, encoder, state, dropped, filled)


def _reason_to_drop(layout: Layout, name: str) -> str | None:
    for beginning, reason in layout.dropped.items():
        if fnmatch.fnmatchcase(name, f"{beginning}*"):
            return reason
    if not name.startswith(layout.prefix):
        return f"outside of {layout.prefix}*, and so no part of the encoder"
    return None


def _check(own: Mapping[str, Tensor], expected: Mapping[str, Tensor], first: Mapping[str, str]) -> None:
    """Every tensor of both sides.

    Raises:
        InputError: naming the first that differs, and both shapes.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in own.items()}
    different = [
        name
        for name in ours | theirs
        if ours.get(name) != theirs.get(name) and not (name not in theirs and first[name] in theirs)
    ]
    if different:
        name = different[0]
        raise InputError(
            f"{len(different)} tensors don't fit, first {name}: shape {theirs.get(name, 'missing')} in the file, "
            f"{ours.get(name, 'missing')} in the encoder"
        )


def _transposed(name: str, value: Tensor) -> Tensor:
    """A kernel, or learned positions on a cube of patches, from (x, y, z) to (z, y, x)."""
    if value.ndim == 5:
        return value.permute(0, 1, 4, 3, 2)
    if name.endswith("position_embeddings"):
        side = round(value.shape[1] ** (1 / 3))
        return value.reshape(1, side, side, side, -1).permute(0, 3, 2, 1, 4).reshape(value.shape)
    return value


def table(published: Published) -> str:
    """What became of every tensor, for people."""

    def numbers(tensors: list[Tensor]) -> str:
        return f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors) / 1e6:.2f} M numbers"

    loaded = [value for name, value in published.state.items() if name not in published.filled]
    lines = [f"  loaded   {numbers(loaded)}"]
    for title, names in (("dropped", published.dropped), ("missing", published.filled)):
        for reason in dict.fromkeys(names.values()):
            chosen = [name for name in names if names[name] == reason]
            more = f", … ({len(chosen)})" if len(chosen) > 2 else ""
            lines.append(f"  {title}  {', '.join(chosen[:2])}{more}: {reason}")
    return "\n".join(lines if published.filled else [*lines, "  missing  none"])
