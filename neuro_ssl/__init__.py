"""Self-supervised foundation models for 3D T1-weighted brain MRI."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro_ssl.encoders.catalogue import list_encoders
    from neuro_ssl.inference import embed, load_encoder

__version__ = "0.1.0"
__all__ = ["embed", "list_encoders", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Import the functions of `__all__` when they are first used: torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "neuro_ssl.encoders.catalogue" if name == "list_encoders" else "neuro_ssl.inference"
    return getattr(importlib.import_module(home), name)
