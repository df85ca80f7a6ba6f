"""Self-supervised foundation models for 3D T1-weighted brain MRI."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro_ssl.brain_encoder import BrainEncoder
    from neuro_ssl.encoders.catalogue import list_encoders
    from neuro_ssl.inference import embed_files, load_encoder

__version__ = "0.1.0"
__all__ = ["BrainEncoder", "embed_files", "list_encoders", "load_encoder"]
_HOMES = {
    "BrainEncoder": "brain_encoder",
    "embed_files": "inference",
    "list_encoders": "encoders.catalogue",
    "load_encoder": "inference",
}


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is first used: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"neuro_ssl.{_HOMES[name]}"), name)
