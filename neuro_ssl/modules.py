"""Modules from their configuration, and their tensors by name."""

import hashlib
import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuro_ssl.errors import InputError


def build_module(node: Mapping[str, Any], *, classes_only: bool = False) -> nn.Module:
    """The module that a configuration with `_target_` describes.

    Args:
        node: the target's name, and its parameters.
        classes_only: call nothing but a subclass of `nn.Module`, for configurations that come from elsewhere.

    Raises:
        ImportError, AttributeError, TypeError, InputError: there is no such class, or it takes other parameters.
    """
    parameters = dict(node)
    module, _, name = parameters.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    if classes_only and not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InputError(f"{module}.{name} is no torch.nn.Module")
    built: nn.Module = kind(**parameters)
    return built


def first_names(module: nn.Module) -> dict[str, str]:
    """Of each name in a module's state, the first name of the same tensor: nnU-Net's networks register some twice."""
    seen: dict[int, str] = {}
    return {name: seen.setdefault(id(tensor), name) for name, tensor in module.state_dict(keep_vars=True).items()}


def with_all_names(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state that holds first names alone, completed by the others."""
    others = {name: state[first] for name, first in first_names(module).items() if name not in state and first in state}
    return {**state, **others}


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Hash of tensors with their names, types and shapes, whatever their order: one digest, the same weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
