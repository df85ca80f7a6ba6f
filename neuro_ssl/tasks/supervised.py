"""Classification and regression on an encoder: linear probe, fine-tuning, training from scratch.

The three differ in two switches alone: the encoder's initial weights, and whether it is frozen. Frozen means that
nothing of it moves, batch-norm statistics included (in the paper's code they do).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import BinaryAUROC
from torchmetrics.regression import MeanAbsoluteError

from neuro_ssl.data.batches import Batch
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import Target, read_targets, score_of
from neuro_ssl.distributed import sum_over_ranks, world_size
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.running_mean import MeanOverTargets
from neuro_ssl.views.intensity import check_views, intensity_of, normalise
from neuro_ssl.views.random import view_keys


class SupervisedTask(L.LightningModule):
    """A linear layer on an encoder's features, with one output a target.

    A scan counts for the targets that it has a label of. Each target's loss is the mean over its labelled scans in the
    batch of all processes, and the loss is the mean over targets by their weights; a target without a label in the
    batch adds nothing.

    Args:
        encoder: volume (batch, 1, z, y, x) → features (batch, embed_dim), with attribute `embed_dim`.
        views: augmentation of training volumes, or None.
        optimizer: what to train with.
        seed: of the views.
        frozen: keep the encoder as it is and train the linear layer alone, on features computed once.
        target_mean: of the training split, one a target.
        target_sd: of the training split, one a target.
        targets: what to learn.
        standardise_target: train regression on targets of mean 0 and variance 1 over the training split; else on
            raw ones, as the paper does.
        standardise_features: likewise show the head a frozen encoder's features; else as they are, as the paper does.

    Raises:
        InputError: a frozen encoder with views, views that don't fit the encoder, or a reference in an unknown metric.
    """

    stage: ClassVar[str] = "downstream"
    feature_mean: Tensor
    feature_sd: Tensor
    target_mean: Tensor
    target_sd: Tensor
    is_class: Tensor
    weight: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        frozen: bool,
        target_mean: float | Sequence[float],
        target_sd: float | Sequence[float],
        targets: Sequence[Target],
        standardise_target: bool = True,
        standardise_features: bool = True,
    ) -> None:
        super().__init__()
        if frozen and views is not None:
            raise InputError("a frozen encoder's features are computed once, without augmentation: use views=none")
        check_views(views, encoder)
        for target in targets:
            if target.reference and target.reference.metric not in METRICS[target.kind]:
                raise InputError(
                    f"task: the reference of {target.name} is in metric {target.reference.metric!r}; a "
                    f"{target.kind} has {', '.join(METRICS[target.kind])}"
                )
        self.encoder, self.views, self.optimizer, self.seed, self.frozen = encoder, views, optimizer, seed, frozen
        self.targets, self.standardise_features = list(targets), standardise_features
        embed_dim = int(encoder.embed_dim)  # type: ignore[arg-type]
        self.head = nn.Linear(embed_dim, len(targets))
        # How the head sees features: as they are, until `cache_features` sets the scale of a frozen encoder's.
        self.register_buffer("feature_mean", torch.zeros(embed_dim))
        self.register_buffer("feature_sd", torch.ones(embed_dim))
        is_class = torch.tensor([target.kind == "classification" for target in targets])
        raw = is_class if standardise_target else torch.ones_like(is_class)
        mean, sd = (torch.as_tensor(x, dtype=torch.float32).expand(len(targets)) for x in (target_mean, target_sd))
        shape = (len(targets),) if len(targets) > 1 else ()  # of one target a number, as in earlier checkpoints
        self.register_buffer("target_mean", mean.masked_fill(raw, 0.0).reshape(shape))
        self.register_buffer("target_sd", sd.clamp(min=1e-6).masked_fill(raw, 1.0).reshape(shape))
        weight = torch.tensor([target.weight for target in targets])
        self.register_buffer("is_class", is_class, persistent=False)
        self.register_buffer("weight", weight / weight.sum(), persistent=False)
        # Lightning's own mean over processes is wrong where their shares differ.
        self.train_loss, self.val_loss = MeanOverTargets(self.weight), MeanOverTargets(self.weight)
        self.train_loss.persistent(True)  # so that a restart within an epoch keeps its first part
        self.val_metrics = nn.ModuleList(BinaryAUROC() if target.classes else MeanAbsoluteError() for target in targets)
        if frozen:
            self.encoder.requires_grad_(False)

    @property
    def best(self) -> dict[str, Any]:
        """What chooses the epoch whose weights are tested: a score on the validation split (`score_of`)."""
        return dict(zip(("monitor", "mode"), score_of(self.targets), strict=True))

    def train(self, mode: bool = True) -> "SupervisedTask":
        """As `nn.Module.train`, except that a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def cache_features(self, datamodule: SupervisedDataModule, device: torch.device, *, with_test: bool = True) -> None:
        """For a frozen encoder: compute all features once, and, if asked for, the scale that the head sees them at.

        Args:
            datamodule: whose volumes are replaced by features, before a trainer asks for its loaders.
            device: where to compute them.
            with_test: false where the test split stays closed.
        """
        datamodule.cache_features(self.to(device).extract, ("train", "val", "test") if with_test else ("train", "val"))
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
        """Logits, or standardised predictions: (batch, targets)."""
        if "features" in batch:
            features = batch["features"]
        elif self.training and self.views is not None:
            keys = view_keys(self.seed, batch["epoch"], batch["draw"], 0)
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                view = self.views(batch["volume"], keys)
            features = self.encoder(view)
        else:
            features = self.encoder(normalise(batch["volume"], intensity_of(self.encoder)))
        return self.head((features - self.feature_mean) / self.feature_sd)  # type: ignore[no-any-return]

    def errors(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What each output costs.

        Binary cross-entropy, or the squared error (of standardised targets, unless raw ones are asked for).

        Args:
            output: (batch, targets), of `forward`.
            target: (batch, targets), NaN where there is no label.

        Returns:
            For each target the sum over its labelled scans, and their number: (targets,) both.
        """
        labelled = ~target.isnan()
        target = target.nan_to_num()  # else 0 × NaN would be every weight's gradient
        cross_entropy = F.binary_cross_entropy_with_logits(output, target, reduction="none")
        squared = F.mse_loss(output, (target - self.target_mean) / self.target_sd, reduction="none")
        errors = torch.where(self.is_class, cross_entropy, squared).where(labelled, 0.0)
        return errors.sum(dim=0), labelled.sum(dim=0)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of this process's scans alone; arguments as for `errors`."""
        total, n = self.errors(output, target)
        return (self.weight * total / n.clamp(min=1)).sum()

    def loss_of(self, batch: Batch) -> Tensor:
        """The loss of this process's scans alone."""
        return self.loss(self(batch), batch["target"])

    def natural(self, output: Tensor) -> Tensor:
        """The probability of the positive class, or the prediction in the target's own unit; (batch, targets)."""
        return torch.where(self.is_class, output.sigmoid(), output * self.target_sd + self.target_mean)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step; logs the loss."""
        total, n = self.errors(self(batch), batch["target"])
        self.train_loss.update(total, n)
        self.log("train/loss", self.train_loss, prog_bar=True, on_epoch=True, on_step=False)
        # DDP takes the mean over ranks; this makes of it the mean over the labelled scans of all ranks.
        return world_size() * (self.weight * total / sum_over_ranks(n).clamp(min=1)).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss, and each target's AUROC or absolute error in natural units."""
        output = self(batch)
        self.val_loss.update(*self.errors(output, batch["target"]))
        self.log("val/loss", self.val_loss, prog_bar=True)
        prediction = self.natural(output)
        for i, (target, metric) in enumerate(zip(self.targets, self.val_metrics, strict=True)):
            labelled = ~batch["target"][:, i].isnan()
            true = batch["target"][labelled, i]
            metric.update(prediction[labelled, i], true.int() if target.classes else true)  # type: ignore[operator]
            of = f"{target.name}/" if len(self.targets) > 1 else ""
            self.log(f"val/{of}{'auroc' if target.classes else 'mae'}", metric, prog_bar=True)  # type: ignore[arg-type]

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Per scan: its manifest row, and for each target the label and the prediction in natural units."""
        return {"scan": batch["scan"], "target": batch["target"], "prediction": self.natural(self(batch))}

    def configure_optimizers(self) -> Any:
        """The configured optimiser over what is not frozen."""
        n_steps = int(self.trainer.estimated_stepping_batches)
        return self.optimizer.build(self.parameters(), n_steps, self.encoder)


class Supervised(SupervisedTask):
    """One target.

    Args:
        encoder: see `SupervisedTask`, as views, optimizer, seed, frozen, target_mean, target_sd, standardise_target and
            standardise_features.
        target: manifest column.
        classes: for classification the two labels, the positive one second; None for regression.
        leave_out: labels of scans to leave out, since they belong to neither class.
        unit: of a regression target, for tables and axes.
        reference: the paper's score (see `data.targets.Reference`), for reports.
    """

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        frozen: bool,
        target_mean: float | Sequence[float],
        target_sd: float | Sequence[float],
        target: str,
        classes: list[str | int] | None = None,
        leave_out: list[str | int] | None = None,
        unit: str | None = None,
        reference: dict[str, Any] | None = None,
        standardise_target: bool = True,
        standardise_features: bool = True,
    ) -> None:
        settings = {"target": target, "classes": classes, "leave_out": leave_out, "unit": unit, "reference": reference}
        parts = (encoder, views, optimizer, seed, frozen, target_mean, target_sd)
        super().__init__(*parts, read_targets("task", settings), standardise_target, standardise_features)
