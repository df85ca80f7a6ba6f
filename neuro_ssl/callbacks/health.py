"""Is training sane? A loss that is no number stops it with what made it; a collapsed representation warns."""

import warnings
from typing import Any

import lightning.pytorch as L
import pandas as pd
import torch

from neuro_ssl.data.batches import Batch
from neuro_ssl.distributed import gather_rows
from neuro_ssl.errors import InputError

# An embedding whose directions spread this little, against 1 for random ones, or whose effective rank is this near to
# 1, tells scans apart no longer. A healthy run stays above both (in experiments/demo: 0.17 and 10 at least).
COLLAPSED_SD, COLLAPSED_RANK = 0.02, 1.5


class Health(L.Callback):
    """Stops at a loss that is not finite, warns of a collapse, and logs the learning rate.

    Args:
        scan_id: of each row of the manifest, to name the scans of a bad batch.
    """

    def __init__(self, scan_id: pd.Series) -> None:
        self.scan_id = scan_id
        self._warned = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Stop at NaN or infinity, before it is saved.

        Raises:
            InputError: naming the step, the batch's scans and the learning rate.
        """
        loss = outputs["loss"]
        bad, _ = gather_rows(~torch.isfinite(loss.detach())[None])
        if not bad.any():
            return  # on all processes alike, so that none is left waiting for another
        scans = ", ".join(self.scan_id[batch["scan"].tolist()])
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        raise InputError(
            f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}), "
            f"learning rate {rate:.3g}, scans {scans}: lower optimizer.learning_rate, set "
            "trainer.gradient_clip_val=1, or look at these scans; the last good checkpoint is kept"
        )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn once a run that the encoder sees all scans alike."""
        metrics = trainer.callback_metrics
        if self._warned or "val/rankme" not in metrics or not getattr(pl_module, "likeness_warns", True):
            return
        spread, rank = float(metrics["val/embedding_sd"]), float(metrics["val/rankme"])
        if spread < COLLAPSED_SD or rank < COLLAPSED_RANK:
            self._warned = True
            warnings.warn(
                f"the representation has collapsed at epoch {trainer.current_epoch + 1}: spread {spread:.3f}, "
                f"effective rank {rank:.1f}; try a lower learning rate, a larger batch or another temperature",
                stacklevel=2,
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The rate that the epoch ended with."""
        pl_module.log("learning_rate", trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)
