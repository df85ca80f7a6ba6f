"""Reading a checkpoint that somebody else wrote, without running what is in it."""

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from neuro_ssl.errors import InputError

WRAPPERS = ("model_state_dict", "network_weights", "state_dict")  # where others keep the tensors
# How torch's reader says that there is more than tensors and plain containers.
FORBIDDEN = re.compile(
    r"(Unsupported (global|class)|unrecognized (function|class)|legacy \.tar).*?(?= was not| Please|$)", re.MULTILINE
)


def read_checkpoint(path: Path, *, trust: bool = False) -> tuple[str | None, dict[str, Tensor]]:
    """The tensors of a file by torch or safetensors, or of the one such file in a tar archive.

    Nothing but tensors and plain containers is unpickled, unless `trust` says otherwise.

    Args:
        path: the file.
        trust: unpickle anything, and so run whatever program the file holds.

    Returns:
        The key that the tensors lie under, None where the file is the tensors; and the tensors by name.

    Raises:
        InputError: the file cannot be read, needs `trust`, or holds no tensors by name.
    """
    try:
        content = _read(path, trust)
    except InputError:
        raise
    except Exception as error:  # whatever a missing, truncated or foreign file makes of the readers
        if found := FORBIDDEN.search(str(error)):
            raise InputError(
                f"{path} holds more than tensors and plain containers ({found[0]}): reading it would run whatever is "
                "in it; if you trust where it comes from, python -m neuro_ssl.weights import … --trust (see its --help)"
            ) from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read as a checkpoint ({reason}); download it again") from error
    wrapper = next((key for key in WRAPPERS if isinstance(content, Mapping) and key in content), None)
    tensors = content[wrapper] if wrapper else content
    if not isinstance(tensors, Mapping) or not tensors:
        raise InputError(f"{path} holds no tensors by name")
    if strange := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise InputError(f"{path} holds no tensors by name: {strange[0]} is a {type(tensors[strange[0]]).__name__}")
    return wrapper, dict(tensors)


def _read(path: Path, trust: bool) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    # A torch file may be called .tar: it starts as a zip archive. (A tar archive of one ends as a zip archive does.)
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip or not tarfile.is_tarfile(path):
        return torch.load(path, map_location="cpu", weights_only=not trust)
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        if {"storages", "tensors"} <= {member.name for member in members}:  # torch's own format before 1.0
            return torch.load(path, map_location="cpu", weights_only=not trust)
        files = [m for m in members if not Path(m.name).name.startswith(".")]
        if len(files) != 1:
            raise InputError(f"{path} is an archive of {len(files)} files: extract it, and name the checkpoint in it")
        extracted = archive.extractfile(files[0])
        assert extracted is not None
        return torch.load(io.BytesIO(extracted.read()), map_location="cpu", weights_only=not trust)
