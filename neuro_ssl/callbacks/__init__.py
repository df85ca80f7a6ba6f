"""Lightning callbacks: what is watched and kept while a model trains."""

from neuro_ssl.callbacks.checkpoints import Checkpoints
from neuro_ssl.callbacks.early_stopping import EarlyStopping
from neuro_ssl.callbacks.health import Health
from neuro_ssl.callbacks.memory import MicroBatchSize
from neuro_ssl.callbacks.out_of_memory import what_would_fit
from neuro_ssl.callbacks.outcome import draw_outcome
from neuro_ssl.callbacks.progress import Progress
from neuro_ssl.callbacks.pruning import Pruning
from neuro_ssl.callbacks.reconstructions import Reconstructions
from neuro_ssl.callbacks.representation import Representation
from neuro_ssl.callbacks.throughput import Throughput
from neuro_ssl.callbacks.view_examples import ViewExamples

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "Health",
    "MicroBatchSize",
    "Progress",
    "Pruning",
    "Reconstructions",
    "Representation",
    "Throughput",
    "ViewExamples",
    "draw_outcome",
    "what_would_fit",
]
