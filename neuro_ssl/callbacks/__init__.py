"""Lightning callbacks: what is watched and kept while a model trains."""

from neuro_ssl.callbacks.progress import Progress
from neuro_ssl.callbacks.view_examples import ViewExamples

__all__ = ["Progress", "ViewExamples"]
