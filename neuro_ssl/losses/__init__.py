"""Training objectives, one a file."""

from neuro_ssl.losses.masked_reconstruction import masked_reconstruction
from neuro_ssl.losses.nt_xent import nt_xent
from neuro_ssl.losses.y_aware import y_aware

__all__ = ["masked_reconstruction", "nt_xent", "y_aware"]
