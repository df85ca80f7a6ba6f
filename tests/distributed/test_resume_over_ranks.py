"""A run on two processes that was killed within an epoch goes on to the same numbers."""

import lightning.pytorch as L
import pytest
from lightning.pytorch.strategies import DDPStrategy

from neuro_ssl.callbacks import Checkpoints
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.views.standard import Standard
from tests.distributed.processes import on_processes


class Killed(Exception):
    pass


class Kill(L.Callback):
    def on_train_batch_end(self, trainer, *args):
        raise Killed


def train(path, checkpoints, *callbacks, resume_from=None):
    """One epoch of two batches, of 2 + 2 and 2 + 1 scans; what was logged."""
    L.seed_everything(0, verbose=False)
    task = SimCLR(ResNet3D(width=8, norm="group"), Standard(), Optimizer(), seed=1)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        max_epochs=1,
        callbacks=[checkpoints, *callbacks],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, SSLDataModule(VolumeStore.open(path), 4, seed=1), ckpt_path=resume_from)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def killed_and_whole(path, directory):
    whole = train(path, Checkpoints(directory / "whole", every_minutes=60))
    checkpoints = Checkpoints(directory / "killed", every_minutes=0)
    with pytest.raises(Killed):
        train(path, checkpoints, Kill())
    return whole, train(path, Checkpoints(directory / "killed", every_minutes=60), resume_from=checkpoints.last)


def test_means_over_the_epoch_are_those_of_all_processes(random_scans, tmp_path):
    for directory in ("whole", "killed"):
        (tmp_path / directory).mkdir()
    for whole, again in on_processes(2, killed_and_whole, random_scans.path, tmp_path):
        assert {"train/loss", "train/contrastive_accuracy", "val/loss"} <= whole.keys()
        assert again == pytest.approx(whole, rel=1e-6)
