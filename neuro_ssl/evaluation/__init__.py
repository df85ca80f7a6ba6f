"""Metrics of predictions, with intervals."""

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Metric
from neuro_ssl.evaluation.scores import difference, score_predictions

__all__ = ["METRICS", "PRIMARY", "Kind", "Metric", "Score", "difference", "score_predictions"]
