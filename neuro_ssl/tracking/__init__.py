"""Where metrics go: always a CSV file in the run directory; Weights & Biases and TensorBoard when asked for.

What of a run they hold, and what stays on this machine:

    scalars         all of them, under the same names and steps everywhere
    configuration   Hydra's, nested; paths are left out (`privacy`). Under `facts`, what the run record knows beside it:
                    versions, commit, counts, hashes, the verdict on leakage
    summary         status, duration, best validation score and its epoch, final scores with their intervals
    lineage         weights and manifest as references with a hash, without content (`lineage`)
    pictures        of scans, and whatever shows individuals: `logger.images=upload` alone gives them to Weights &
                    Biases. TensorBoard's files lie in the run directory beside the pictures themselves, and hold them
    predictions     `logger.ids=hashed` alone gives Weights & Biases the table, by keyed hashes of subjects and scans
"""

from neuro_ssl.tracking.metrics_csv import MetricsCSV
from neuro_ssl.tracking.tensorboard import tensorboard_logger
from neuro_ssl.tracking.tracked import begin_tracking, tracked
from neuro_ssl.tracking.weights_and_biases import wandb_logger

__all__ = ["MetricsCSV", "begin_tracking", "tensorboard_logger", "tracked", "wandb_logger"]
