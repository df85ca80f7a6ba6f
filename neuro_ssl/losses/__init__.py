"""Training objectives, one a file."""

from neuro_ssl.losses.nt_xent import nt_xent
from neuro_ssl.losses.y_aware import y_aware

__all__ = ["nt_xent", "y_aware"]
