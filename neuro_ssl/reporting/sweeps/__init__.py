"""Sweeps in the report and on screen: their points read, folded over seeds, ranked by validation."""
