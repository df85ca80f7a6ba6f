"""Measurements of speed and memory, each a function that returns rows of a table."""
