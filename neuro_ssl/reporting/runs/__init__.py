"""Runs of training in the report: read, grouped, compared, drawn."""
