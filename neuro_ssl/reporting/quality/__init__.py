"""The page of quality control of a volume store."""
