"""Cohorts, their manifests and splits, and the volume stores that training reads."""
