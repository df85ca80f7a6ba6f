"""Encoders: volume (batch, 1, depth, height, width) → features (batch, embed_dim). One file a family."""

from neuro_ssl.encoders.encoder import Encoder

__all__ = ["Encoder"]
