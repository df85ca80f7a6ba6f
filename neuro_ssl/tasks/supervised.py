"""Classification and regression on an encoder: linear probe, fine-tuning, training from scratch.

The three differ in two switches alone: the encoder's initial weights, and whether it is frozen. Frozen means that
nothing of it moves, batch-norm statistics included (in the paper's code they do).
"""

from typing import Any, ClassVar, Literal

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC
from torchmetrics.regression import MeanAbsoluteError

from neuro_ssl.data.batches import Batch
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.distributed import weighted_for_ddp
from neuro_ssl.errors import InputError
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.running_mean import RunningMean
from neuro_ssl.views.intensity import check_views, intensity_of, normalise
from neuro_ssl.views.random import view_keys


class Supervised(L.LightningModule):
    """A linear layer on an encoder's features, for one target.

    Args:
        encoder: volume (batch, 1, z, y, x) → features (batch, embed_dim), with attribute `embed_dim`.
        views: augmentation of training volumes, or None.
        optimizer: what to train with.
        seed: of the views.
        frozen: keep the encoder as it is and train the linear layer alone, on features computed once.
        target_mean: of the training split.
        target_sd: of the training split.
        target: manifest column.
        classes: for classification the two labels, the positive one second; None for regression.
        leave_out: labels of scans to leave out, since they belong to neither class.
        unit: of a regression target, for tables and axes.
        standardise_target: train regression on targets of mean 0 and variance 1 over the training split; else on
            raw ones, as the paper does.
        standardise_features: likewise show the head a frozen encoder's features; else as they are, as the paper does.
    """

    stage: ClassVar[str] = "downstream"
    feature_mean: Tensor
    feature_sd: Tensor
    target_mean: Tensor
    target_sd: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        frozen: bool,
        target_mean: float,
        target_sd: float,
        target: str,
        classes: list[str] | None = None,
        leave_out: list[str] | None = None,
        unit: str | None = None,
        standardise_target: bool = True,
        standardise_features: bool = True,
    ) -> None:
        super().__init__()
        if classes is not None and len(classes) != 2:
            raise InputError(f"task.classes must name two labels, the positive one second; got {classes}")
        if frozen and views is not None:
            raise InputError("a frozen encoder's features are computed once, without augmentation: use views=none")
        check_views(views, encoder)
        self.encoder, self.views, self.optimizer, self.seed = encoder, views, optimizer, seed
        self.frozen, self.classes, self.target, self.leave_out, self.unit = frozen, classes, target, leave_out, unit
        self.standardise_features = standardise_features
        self.kind: Literal["classification", "regression"] = "classification" if classes else "regression"
        embed_dim = int(encoder.embed_dim)  # type: ignore[arg-type]
        self.head = nn.Linear(embed_dim, 1)
        # How the head sees features: as they are, until `cache_features` sets the scale of a frozen encoder's.
        self.register_buffer("feature_mean", torch.zeros(embed_dim))
        self.register_buffer("feature_sd", torch.ones(embed_dim))
        raw = classes is not None or not standardise_target
        self.register_buffer("target_mean", torch.tensor(0.0 if raw else target_mean))
        self.register_buffer("target_sd", torch.tensor(1.0 if raw else max(target_sd, 1e-6)))
        self.train_loss = RunningMean()  # in the checkpoint, so that a restart within an epoch keeps its first part
        self.train_loss.persistent(True)
        self.val_loss = RunningMean()  # Lightning's own mean over processes is wrong where their shares differ
        self.val_metric: Metric = BinaryAUROC() if classes else MeanAbsoluteError()
        if frozen:
            self.encoder.requires_grad_(False)

    @property
    def best(self) -> dict[str, Any]:
        """What chooses the epoch whose weights are tested: a score on the validation split, the paper's."""
        return {"monitor": "val/auroc", "mode": "max"} if self.classes else {"monitor": "val/loss", "mode": "min"}

    def train(self, mode: bool = True) -> "Supervised":
        """As `nn.Module.train`, except that a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def cache_features(self, datamodule: SupervisedDataModule, device: torch.device) -> None:
        """For a frozen encoder: compute all features once, and, if asked for, the scale that the head sees them at.

        Args:
            datamodule: whose volumes are replaced by features, before a trainer asks for its loaders.
            device: where to compute them.
        """
        datamodule.cache_features(self.to(device).extract)
        features = datamodule.datasets["train"].features
        assert features is not None
        self.scale_features(features)

    def scale_features(self, features: Tensor) -> None:
        """Set the scale that the head sees a frozen encoder's features at, if it is to be other than their own.

        Args:
            features: of the training scans, (scans, embed_dim).
        """
        if not self.standardise_features:
            return
        self.feature_mean.copy_(features.mean(dim=0))
        # A feature that hardly varies over the training split would blow up whatever differs in a new scan.
        sd = features.std(dim=0, correction=0)
        self.feature_sd.copy_(sd.clamp(min=0.1 * float(sd.square().mean().sqrt()) + 1e-12))

    @torch.no_grad()
    def extract(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) on any device → the encoder's features (batch, embed_dim), in evaluation mode."""
        self.encoder.eval()
        volume = normalise(volume.to(self.device), intensity_of(self.encoder))
        return self.encoder(volume).float()  # type: ignore[no-any-return]

    def forward(self, batch: Batch) -> Tensor:
        """Logits, or standardised predictions: (batch,)."""
        if "features" in batch:
            features = batch["features"]
        elif self.training and self.views is not None:
            keys = view_keys(self.seed, batch["epoch"], batch["draw"], 0)
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                view = self.views(batch["volume"], keys)
            features = self.encoder(view)
        else:
            features = self.encoder(normalise(batch["volume"], intensity_of(self.encoder)))
        return self.head((features - self.feature_mean) / self.feature_sd).squeeze(1)  # type: ignore[no-any-return]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, or the squared error (of standardised targets, unless raw ones are asked for)."""
        if self.classes:
            return F.binary_cross_entropy_with_logits(output, target)
        return F.mse_loss(output, (target - self.target_mean) / self.target_sd)

    def natural(self, output: Tensor) -> Tensor:
        """The probability of the positive class, or the prediction in the target's own unit."""
        return output.sigmoid() if self.classes else output * self.target_sd + self.target_mean

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; logs the loss."""
        loss = self.loss(self(batch), batch["target"])
        n = len(batch["scan"])
        self.train_loss.update(loss, n)
        self.log("train/loss", self.train_loss, prog_bar=True, on_epoch=True, on_step=False)
        return weighted_for_ddp(loss, n, batch.get("shares"))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss, and AUROC or the absolute error in natural units."""
        output = self(batch)
        self.val_loss.update(self.loss(output, batch["target"]), len(batch["scan"]))
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.val_metric.update(self.natural(output), batch["target"].int() if self.classes else batch["target"])
        self.log("val/auroc" if self.classes else "val/mae", self.val_metric, prog_bar=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Per scan: its manifest row, the target, and the prediction in natural units."""
        return {"scan": batch["scan"], "target": batch["target"], "prediction": self.natural(self(batch))}

    def configure_optimizers(self) -> Any:
        """The configured optimiser over what is not frozen."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        return self.optimizer.build(self.parameters(), n_steps, self.encoder)
