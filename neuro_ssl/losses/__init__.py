"""Training objectives, one a file."""

from neuro_ssl.losses.nt_xent import nt_xent

__all__ = ["nt_xent"]
