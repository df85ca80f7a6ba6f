"""The evaluation that `python -m neuro_ssl.evaluate` runs."""
