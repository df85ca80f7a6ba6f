"""A run on two processes that was killed within an epoch goes on to the same numbers."""

import lightning.pytorch as L
import pytest
from lightning.pytorch.strategies import DDPStrategy

from neuro_ssl.callbacks import Checkpoints
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import read_targets
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.multitask import Multitask
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.views.standard import Standard
from tests.distributed.processes import on_processes

TASKS = ("simclr", "multitask")
TARGETS = {"age": {"target": "age_years"}, "sex": {"target": "sex", "classes": ["F", "M"], "weight": 2}}


class Killed(Exception):
    pass


class Kill(L.Callback):
    def on_train_batch_end(self, trainer, *args):
        raise Killed


def train(path, task_name, checkpoints, *callbacks, resume_from=None):
    """One epoch of two batches, of 2 + 2 and 2 + 1 scans; what was logged."""
    L.seed_everything(0, verbose=False)
    store = VolumeStore.open(path)
    parts = {"encoder": ResNet3D(width=8, norm="group"), "views": Standard(), "optimizer": Optimizer(), "seed": 1}
    if task_name == "simclr":
        task, datamodule = SimCLR(**parts), SSLDataModule(store, 4, seed=1)
    else:
        datamodule = SupervisedDataModule(store, read_targets(task_name, {"targets": TARGETS}), 4, seed=1)
        mean, sd = datamodule.target_statistics
        task = Multitask(**parts, frozen=False, target_mean=mean, target_sd=sd, targets=TARGETS)
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
    trainer.fit(task, datamodule, ckpt_path=resume_from)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def killed_and_whole(path, directory):
    """Of each task, what was logged without the kill and with it."""
    logged = {}
    for name in TASKS:
        whole = train(path, name, Checkpoints(directory / f"{name} whole", every_minutes=60))
        checkpoints = Checkpoints(directory / f"{name} killed", every_minutes=0)
        with pytest.raises(Killed):
            train(path, name, checkpoints, Kill())
        again = Checkpoints(checkpoints.directory, every_minutes=60)
        logged[name] = whole, train(path, name, again, resume_from=checkpoints.last)
    return logged


@pytest.fixture(scope="module")
def logged(random_scans, tmp_path_factory):
    """On both ranks."""
    directory = tmp_path_factory.mktemp("resumed")
    for name in TASKS:
        for run in ("whole", "killed"):
            (directory / f"{name} {run}").mkdir()
    return on_processes(2, killed_and_whole, random_scans.path, directory)


@pytest.mark.parametrize("task", TASKS)
def test_means_over_the_epoch_are_those_of_all_processes(logged, task):
    for rank in logged:
        whole, again = rank[task]
        assert {"train/loss", "val/loss"} < whole.keys()
        assert again == pytest.approx(whole, rel=1e-6)
