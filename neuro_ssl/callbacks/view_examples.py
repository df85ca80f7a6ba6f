"""Keeps a few scans and the views that pretraining makes of them, for a person to look at."""

from pathlib import Path

import lightning.pytorch as L
import matplotlib.image
import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from neuro_ssl.callbacks.offering import offer_picture
from neuro_ssl.data.batches import Batch
from neuro_ssl.files import appearing
from neuro_ssl.reporting.runs.figures import middle_slices
from neuro_ssl.tasks.pretraining import Pretraining


class ViewExamples(L.Callback):
    """Writes `views.npz` when training starts: `original`, `view1` and so on, each (scans, z, y, x) float32.

    And `views.png`, their middle slices: originals in the first row, a row for each view, side by side the scans. It is
    offered to loggers that take images (`logger.images=upload` alone lets them upload it).

    Args:
        directory: the run directory.
        n_scans: how many, from the start of the first epoch's order.
    """

    def __init__(self, directory: Path, n_scans: int = 3) -> None:
        self.file, self.n_scans = directory / "views.npz", n_scans

    @rank_zero_only
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Only the first batch is looked at."""
        if trainer.global_step or not isinstance(pl_module, Pretraining):
            return
        some = {key: value[: self.n_scans] for key, value in batch.items()}
        views = {f"view{i}": view for i, view in enumerate(pl_module.make_views(some), start=1)}
        shown = {name: v[:, 0].float().cpu().numpy() for name, v in {"original": some["volume"], **views}.items()}
        np.savez_compressed(self.file, **shown)
        rows = [np.hstack([middle_slices(volume) for volume in volumes]) for volumes in shown.values()]
        picture = self.file.with_suffix(".png")
        with appearing(picture) as temporary:
            matplotlib.image.imsave(temporary, np.vstack(rows), cmap="gray", vmin=0, vmax=1, format="png")
        offer_picture(trainer, "views", picture)
