"""Self-supervised foundation models for 3D T1-weighted brain MRI."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro_ssl.inference import embed, load_encoder

__version__ = "0.1.0"
__all__ = ["embed", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Import the functions of `__all__` when they are first used: torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neuro_ssl import inference

    return getattr(inference, name)
