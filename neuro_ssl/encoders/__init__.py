"""Encoders: volume (batch, 1, depth, height, width) → features (batch, embed_dim). One file a family."""
