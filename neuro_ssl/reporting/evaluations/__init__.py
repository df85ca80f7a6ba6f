"""Evaluations in the report: read, put in words, drawn."""
