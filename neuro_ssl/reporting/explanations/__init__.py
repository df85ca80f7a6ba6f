"""Explanations in the report: maps, and a viewer to look around in."""
