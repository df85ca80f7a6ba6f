"""Keeps a few scans and the two views that pretraining makes of them, for a person to look at."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from neuro_ssl.tasks.simclr import SimCLR


class ViewExamples(L.Callback):
    """Writes `views.npz` when training starts: `original`, `view1`, `view2`, each (scans, z, y, x) float32.

    Args:
        directory: the run directory.
        n_scans: how many, from the start of the first epoch's order.
    """

    def __init__(self, directory: Path, n_scans: int = 3) -> None:
        self.file, self.n_scans = directory / "views.npz", n_scans

    @rank_zero_only
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: dict[str, "object"], batch_idx: int
    ) -> None:
        """Only the first batch is looked at."""
        if trainer.global_step or not isinstance(pl_module, SimCLR):
            return
        some = {key: value[: self.n_scans] for key, value in batch.items()}  # type: ignore[index]
        first, second = pl_module.make_views(some)  # type: ignore[arg-type]
        arrays = {"original": some["volume"], "view1": first, "view2": second}
        np.savez_compressed(self.file, **{k: v[:, 0].float().cpu().numpy() for k, v in arrays.items()})
