"""Embeddings in the report: frozen features in two dimensions."""
