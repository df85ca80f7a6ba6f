"""Pictures of what a masked autoencoder sees and makes of it, for a person to judge."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor

from neuro_ssl.callbacks.offering import offer_picture
from neuro_ssl.data.batches import Batch
from neuro_ssl.files import appearing
from neuro_ssl.reporting.runs.figures import middle_planes
from neuro_ssl.sharding import whole
from neuro_ssl.tasks.mae import MAE
from neuro_ssl.tasks.masked_autoencoder import Reconstruction
from neuro_ssl.tasks.simclr_mae import SimCLRMAE

Array = npt.NDArray[Any]

COLUMNS = ("original", "what the encoder sees", "reconstruction, in the brain", "error")
ENDS = {"axial": ("L", "R"), "coronal": ("L", "R"), "sagittal": ("P", "A")}  # of a row of pixels
HIDDEN = (0.15, 0.25, 0.4)  # a blue, which no grey of a brain is taken for
LARGEST_ERROR = 2.0  # that has a colour of its own, in standard deviations of the view's brain


class Reconstructions(L.Callback):
    """Writes `reconstructions.png` of the first validation scans, for tasks that reconstruct.

    After epochs 1, 2, 4, 8, … and at the end of training, each time in place of the last; loggers that take images get
    all of them (W&B with `logger.images=upload` alone).

    Args:
        directory: the run directory.
        n_scans: how many.
    """

    def __init__(self, directory: Path, n_scans: int = 2) -> None:
        self.file, self.n_scans = directory / "reconstructions.png", n_scans
        self._scans: Batch | None = None
        self._drawn_at: int | None = None

    @rank_zero_only
    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first scans, and not the batch that they are a part of."""
        if batch_idx == 0 and isinstance(pl_module, MAE | SimCLRMAE):
            self._scans = {key: batch[key][: self.n_scans].clone() for key in ("volume", "epoch", "draw")}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After epochs 1, 2, 4, 8, …"""
        epoch = trainer.current_epoch + 1
        if epoch & (epoch - 1) == 0:
            with whole(pl_module):
                self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The final state."""
        with whole(pl_module):
            self._draw(trainer, pl_module)

    @rank_zero_only
    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._scans is None or not isinstance(pl_module, MAE | SimCLRMAE) or self._drawn_at == trainer.global_step:
            return
        self._drawn_at = trainer.global_step
        training = pl_module.training
        pl_module.eval()
        view, made = pl_module.reconstruct(self._scans)
        pl_module.train(training)
        caption = f"Validation scans after {trainer.global_step} steps"
        if pl_module.autoencoder.normalise_patches:
            caption += "; reconstructed patches are shown with the true ones' mean and contrast"
        figure = reconstruction_figure(view, made, caption)
        with appearing(self.file) as temporary:
            figure.savefig(temporary, format="png", dpi=110, facecolor="black")
        offer_picture(trainer, "reconstructions", self.file)


def reconstruction_figure(view: Tensor, made: Reconstruction, caption: str) -> Figure:
    """One row for each scan and plane: the view, its visible patches, those with the reconstructed ones, the error.

    What is predicted beyond the brain's edge shows in the error alone: background is 0 in a standardised view, as is
    the mean of the brain, and would cover the edge with grey.

    Args:
        view: (scans, 1, z, y, x), axes towards S, A, R.
        made: of it.
        caption: above it.
    """
    rows = [(scan, plane) for scan in range(len(view)) for plane in ENDS]
    figure = Figure(figsize=(8.4, 2.05 * len(rows) + 0.6), facecolor="black", layout="constrained")
    figure.suptitle(caption, color="white", fontsize=9)
    axes = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, color="white", fontsize=9)
    for row, (scan, plane) in zip(axes, rows, strict=True):
        true, predicted, masked, hidden = (
            middle_planes(volume[scan, 0].float().cpu().numpy())[plane]
            for volume in (view, made.prediction, made.masked, made.hidden)
        )
        brain = view[scan][view[scan] != 0].float().cpu().numpy()
        low, high = np.percentile(brain, [1, 99]) if brain.size else (0.0, 1.0)
        whole = np.where(masked > 0, predicted, true)
        background = true == 0
        original = _grey(true, background, low, high)
        seen = np.where(hidden[:, :, None] > 0, HIDDEN, original)
        for axis, picture in zip(row, (original, seen, _grey(whole, background, low, high)), strict=False):
            axis.imshow(picture)
        error = row[3].imshow(np.abs(whole - true), cmap="inferno", vmin=0, vmax=LARGEST_ERROR)
        row[0].set_ylabel(f"scan {scan + 1}, {plane}\nloss {made.loss[scan]:.2f}", color="white", fontsize=9)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for x, letter in zip((0.03, 0.97), ENDS[plane], strict=True):
            row[0].text(x, 0.5, letter, color="white", fontsize=8, ha="center", transform=row[0].transAxes)
    bar = figure.colorbar(error, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.01)
    bar.set_label("error in masked patches, standard deviations of the brain", color="white", fontsize=9)
    bar.ax.tick_params(colors="white", labelsize=8)
    return figure


def _grey(plane: Array, background: Array, low: float, high: float) -> Array:
    """(rows, columns, 3); standardised views have negative voxels, so a background of 0 would show as mid-grey."""
    grey = np.where(background, 0, np.clip((plane - low) / max(high - low, 1e-6), 0, 1))
    return np.repeat(grey[:, :, None], 3, axis=2)
