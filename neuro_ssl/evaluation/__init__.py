"""Metrics of predictions, with intervals."""

from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Metric
from neuro_ssl.evaluation.scores import Score, difference, score_predictions

__all__ = ["METRICS", "PRIMARY", "Kind", "Metric", "Score", "difference", "score_predictions"]
