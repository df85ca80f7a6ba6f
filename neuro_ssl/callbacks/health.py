"""Is training sane? A loss that is no number stops it with what made it; a collapsed representation warns.

learning_rate  that an epoch ended with
gradient_norm  of all weights together, of the whole batch's loss over all processes, before any clipping: of the
               steps that are logged, and of an epoch's last
"""

import warnings
from typing import Any, NamedTuple

import lightning.pytorch as L
import pandas as pd
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from neuro_ssl.callbacks.intervals import logging_is_due
from neuro_ssl.data.batches import Batch
from neuro_ssl.distributed import gather_rows, world_size
from neuro_ssl.errors import InputError
from neuro_ssl.sharding import whole

# An embedding whose directions spread this little, against 1 for random ones, or whose effective rank is this near to
# 1, tells scans apart no longer. A healthy run stays above both (in experiments/demo: 0.17 and 10 at least).
COLLAPSED_SD, COLLAPSED_RANK = 0.02, 1.5

REMEDY = (
    "lower optimizer.learning_rate, set trainer.gradient_clip_val=1, or look at these scans; the last good checkpoint "
    "is kept"
)


class _Step(NamedTuple):
    """What to tell of a step if its loss turns out to be no number; tensors stay where they are."""

    loss: Tensor
    scan: Tensor
    step: int
    epoch: int
    learning_rate: float


class Health(L.Callback):
    """Stops at a loss that is not finite, warns of a collapse, and logs learning rate and gradient norm.

    Losses are looked at every `log_every_n_steps` steps of the trainer, before validation and before every checkpoint,
    so that no step waits for one, and no checkpoint holds weights that are not finite. It belongs before `Checkpoints`
    among the callbacks.

    Args:
        scan_id: of each row of the manifest, to name the scans of a bad batch.
    """

    def __init__(self, scan_id: pd.Series) -> None:
        self.scan_id = scan_id
        self._unseen: list[_Step] = []
        self._norm: Tensor | None = None  # stays on the device until it is logged
        self._warned = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn of a precision that computes wrong gradients."""
        if pl_module.device.type == "cpu" and str(trainer.precision).startswith("bf16"):
            warnings.warn(
                f"trainer.precision={trainer.precision} on the CPU: PyTorch's convolutions may return wrong weight "
                "gradients for small feature maps, NaN at worst; set trainer.precision=32-true",
                stacklevel=2,
            )

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Take the gradient's norm where it is logged: it reads as many numbers as there are weights."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not trainer.is_last_batch and (every == 0 or (trainer.global_step + 1) % every):
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None])
        self._norm = norm.full_tensor() if isinstance(norm, DTensor) else norm  # the former of sharded weights

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Remember the step; look when it is time to."""
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        loss = outputs["loss"].detach()
        self._unseen.append(_Step(loss, batch["scan"], trainer.global_step, trainer.current_epoch + 1, rate))
        if logging_is_due(trainer):
            self._look()
            self._log_norm(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Weights that are no numbers have nothing to validate."""
        self._look()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep NaN and infinity out of checkpoints; a finite loss may have had gradients that were not.

        Raises:
            InputError: naming the step, its scans and the learning rate.
        """
        last = self._unseen[-1] if self._unseen else None
        self._look()
        with whole(pl_module):
            largest = torch.nn.utils.get_total_norm([p.detach() for p in pl_module.parameters()], float("inf"))
        if not torch.isfinite(largest):  # weights are the same on all processes
            scans = f" with scans {self._names(last.scan)}" if last else ""
            raise InputError(f"weights are not finite after step {trainer.global_step}{scans}: {REMEDY}")

    def _look(self) -> None:
        """Stop at NaN or infinity in a loss since the last look.

        Raises:
            InputError: naming the step, its scans and the learning rate.
        """
        if not self._unseen:
            return
        steps, self._unseen = self._unseen, []
        finite, _ = gather_rows(torch.isfinite(torch.stack([step.loss for step in steps])))
        # On all processes alike, so that none is left waiting for another.
        good = finite.view(world_size(), -1).all(dim=0).tolist()
        if all(good):
            return
        first = steps[good.index(False)]
        raise InputError(
            f"the loss is {first.loss.item()} at step {first.step} (epoch {first.epoch}), learning rate "
            f"{first.learning_rate:.3g}, scans {self._names(first.scan)}: {REMEDY}"
        )

    def _names(self, scan: Tensor) -> str:
        return ", ".join(self.scan_id[scan.tolist()])

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

    def _log_norm(self, trainer: L.Trainer) -> None:
        """Log the norm of the step that has just ended, unless that is done."""
        if self._norm is None:
            return
        norm, self._norm = float(self._norm), None
        for logger in trainer.loggers:
            logger.log_metrics({"gradient_norm": norm, "epoch": trainer.current_epoch}, trainer.global_step - 1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The rate and the gradient that the epoch ended with."""
        self._log_norm(trainer)
        pl_module.log("learning_rate", trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)
