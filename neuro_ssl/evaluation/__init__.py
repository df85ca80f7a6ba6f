"""Metrics of predictions, with intervals."""

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Metric, Predictions
from neuro_ssl.evaluation.scores import difference, over_replicates, score_predictions

__all__ = [
    "METRICS",
    "PRIMARY",
    "Kind",
    "Metric",
    "Predictions",
    "Score",
    "difference",
    "over_replicates",
    "score_predictions",
]
