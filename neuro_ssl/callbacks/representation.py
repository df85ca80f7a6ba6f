"""Is the representation getting better? Frozen features of training and held-out scans, every few epochs.

    representation/rankme                effective rank of the held-out scans' features
    representation/alignment             distance of two views of a held-out scan
    representation/uniformity            how evenly views of different scans spread
    representation/contrastive_accuracy  how often a view is nearest to its scan's other view
    representation/age_years_ridge_mae   a probe fitted on training subjects, scored on validation subjects; likewise
                                         age_years_knn_mae, sex_logistic_auroc, sex_knn_auroc, diagnosis_…
    representation/seconds               what one such measurement takes
    representation/share_of_time         of this process's training time so far, what all of them took

See `evaluation.representation` for what these are. Labels serve to watch alone: nothing is learnt from them, and the
test split is never looked at. Training is not disturbed: no random state, no weight and no running statistic changes.
"""

import math
import time
import warnings

import lightning.pytorch as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from neuro_ssl.data.batches import ScanDataset
from neuro_ssl.data.datamodule import ScanDataModule, Split
from neuro_ssl.data.samplers import Draw
from neuro_ssl.distributed import gather_rows
from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.representation import (
    MIN_SUBJECTS,
    alignment,
    contrastive_accuracy,
    label_scores,
    objectives,
    rankme,
    uniformity,
)
from neuro_ssl.sharding import whole
from neuro_ssl.tasks.pretraining import Pretraining
from neuro_ssl.views.intensity import intensity_of, normalise

MOST_AT_ONCE = 8  # scans that a device holds, if a training step doesn't hold fewer; without gradients they need little


class Representation(L.Callback):
    """Measures the representation at the end of every so many epochs, and of the last.

    The scans are the same each time: one of every subject before a second of any, and not more than `n_scans` of each
    of the two splits. Each process computes the features of its share; the first one measures.

    Args:
        every_epochs: epochs between measurements; 0: never.
        n_scans: the most scans of a split.

    Attributes:
        measured: what was measured at the end of this epoch, by name; empty where nothing was.

    Raises:
        InputError: a number that cannot be.
    """

    def __init__(self, every_epochs: int, n_scans: int = 512) -> None:
        if every_epochs < 0:
            raise InputError(f"representation_every_epochs must be at least 0 (never), got {every_epochs}")
        self.every_epochs, self.n_scans = every_epochs, n_scans
        self.measured: dict[str, float] = {}
        self._started, self._seconds, self._told = 0.0, 0.0, False

    def check_objective(self, objective: str | None, datamodule: ScanDataModule) -> None:
        """Refuse what will not be measured, before any training.

        Args:
            objective: a metric that a search goes by, such as `representation/age_years_ridge_mae`; None asks for none.
            datamodule: whose scans will be measured.

        Raises:
            InputError: nothing is measured, or not this.
        """
        if objective is None:
            return
        if not self.every_epochs:
            raise InputError(f"objective={objective} is never measured: set representation_every_epochs, such as to 10")
        train, val = self._scans(datamodule, "train"), self._scans(datamodule, "val")
        names = objectives(train, val) if val["subject"].nunique() > 1 else []
        known = [f"representation/{name}" for name in names]
        if objective not in known:
            raise InputError(
                f"objective={objective} cannot be told from this cohort's validation scans, but "
                f"{', '.join(known) or 'nothing, of fewer than two subjects'}; a probe needs labels of {MIN_SUBJECTS} "
                "subjects in each of the two splits"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From when time counts."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After validation, if it is time to."""
        self.measured.clear()
        epoch = trainer.current_epoch + 1
        if not self.every_epochs or not isinstance(pl_module, Pretraining):
            return
        ends = epoch == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step or trainer.should_stop
        if epoch % self.every_epochs and not ends:
            return
        begin = time.perf_counter()
        measured = self._measure(trainer, pl_module)
        if not measured:
            return
        now = time.perf_counter()
        self._seconds += now - begin
        share = self._seconds / (now - self._started)
        named = {f"representation/{name}": value for name, value in measured.items()}
        self.measured.update(named)
        named |= {"representation/seconds": now - begin, "representation/share_of_time": share}
        # (Lightning's `log` would log the last value again where there is no new one.)
        for logger in trainer.loggers:
            logger.log_metrics({**named, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        self._tell(epoch, now - begin, share)

    @rank_zero_only
    def _tell(self, epoch: int, seconds: float, share: float) -> None:
        """Say once what it costs."""
        if not self._told:
            tqdm.write(
                f"representation: measured in {seconds:.1f} s after epoch {epoch}, {share:.1%} of the time so far "
                f"(representation_every_epochs={self.every_epochs})"
            )
            self._told = True

    def _measure(self, trainer: L.Trainer, task: Pretraining) -> dict[str, float]:
        """All there is to say; nothing in processes other than the first, or of fewer than two held-out subjects."""
        datamodule: ScanDataModule = trainer.datamodule  # type: ignore[attr-defined]
        train, val = self._scans(datamodule, "train"), self._scans(datamodule, "val")
        if val["subject"].nunique() < 2:
            return {}
        n_views = task.n_views if task.n_views == 2 else 0
        with whole(task):
            features = self._features(trainer, task, datamodule, train, 0)[:, 0]
            val_features, *views = self._features(trainer, task, datamodule, val, n_views).unbind(1)
        if not trainer.is_global_zero:
            return {}
        if not all(torch.isfinite(some).all() for some in (features, val_features, *views)):
            warnings.warn("some features are not finite, the representation is not measured", stacklevel=2)
            return {}
        measured = {"rankme": float(rankme(val_features))}
        if views:
            first, second = views
            measured["alignment"] = float(alignment(first, second))
            measured["uniformity"] = float(uniformity(first) + uniformity(second)) / 2
            subject = torch.tensor(val["subject"].to_numpy(copy=True))
            measured["contrastive_accuracy"] = float(contrastive_accuracy(first, second, subject))
        return measured | label_scores(features, train, val_features, val)

    def _scans(self, datamodule: ScanDataModule, split: Split) -> pd.DataFrame:
        """Rows of the manifest, with the codes of their subjects, in its order."""
        dataset = datamodule.datasets[split]
        scans = datamodule.store.manifest.loc[dataset.scan.numpy()].assign(subject=dataset.subject.numpy())
        shuffled = scans.iloc[np.random.default_rng(0).permutation(len(scans))]
        turn = shuffled.groupby("subject").cumcount().to_numpy()  # 0: the first of its subject
        return shuffled.iloc[np.argsort(turn, kind="stable")[: self.n_scans]].sort_index()

    @torch.no_grad()
    def _features(
        self, trainer: L.Trainer, task: Pretraining, datamodule: ScanDataModule, scans: pd.DataFrame, n_views: int
    ) -> Tensor:
        """Of each scan as it is and of its views, (scans, 1 + n_views, embed_dim) on the CPU, in every process all.

        Views are those of epoch 0, the same each time.
        """
        rank, n_ranks = trainer.global_rank, trainer.world_size
        share = math.ceil(datamodule.batch_size / n_ranks)
        batch_size = min(MOST_AT_ONCE, task.micro_batch_size or share)
        dataset = ScanDataset(datamodule.store, scans)
        dataset.cache = datamodule.datasets["val"].cache  # of compressed volumes, for all splits
        mine = range(len(scans))[rank::n_ranks]
        batches = [[Draw(row, 0, row) for row in mine[i : i + batch_size]] for i in range(0, len(mine), batch_size)]
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=batches,
            num_workers=min(datamodule.num_workers, len(batches)),
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it would draw from the global one, which training draws from
        )
        parts = [torch.empty(0, 1 + n_views, int(task.encoder.embed_dim), device=task.device)]  # type: ignore[arg-type]
        training = task.training
        task.eval()
        try:
            for batch in loader:
                part = {key: batch[key].to(task.device, non_blocking=True) for key in ("volume", "epoch", "draw")}
                volumes = [normalise(part["volume"], intensity_of(task.encoder))]
                volumes += task.make_views(part) if n_views else ()
                with trainer.precision_plugin.forward_context():
                    embedded = [task.encoder(volume).float() for volume in volumes]
                parts.append(torch.stack(embedded, dim=1))
        finally:
            task.train(training)
        gathered, _ = gather_rows(torch.cat(parts))
        order = np.argsort(np.concatenate([np.arange(len(scans))[r::n_ranks] for r in range(n_ranks)]))
        return gathered.cpu()[order]
