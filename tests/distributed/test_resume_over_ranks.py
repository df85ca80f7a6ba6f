"""A run on two processes that was killed within an epoch goes on to the same numbers, also on one, and sharded."""

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from neuro_ssl.callbacks import Checkpoints, Representation
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import read_targets
from neuro_ssl.distributed import world_size
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.sharding import FullyShardedStrategy
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


def train(path, task_name, checkpoints, *callbacks, resume_from=None, sharded=False):
    """One epoch of two batches, on two processes of 2 + 2 and 2 + 1 scans; what was logged."""
    L.seed_everything(0, verbose=False)
    store, n_processes = VolumeStore.open(path), world_size()
    optimizer = Optimizer(layer_decay=0.5)
    parts = {"encoder": ResNet3D(width=8, norm="group"), "views": Standard(), "optimizer": optimizer, "seed": 1}
    if task_name == "simclr":
        task, datamodule = SimCLR(**parts), SSLDataModule(store, 4, seed=1)
    else:
        datamodule = SupervisedDataModule(store, read_targets(task_name, {"targets": TARGETS}), 4, seed=1)
        mean, sd = datamodule.target_statistics
        task = Multitask(**parts, frozen=False, target_mean=mean, target_sd=sd, targets=TARGETS)
    several = FullyShardedStrategy() if sharded else DDPStrategy(process_group_backend="gloo")
    trainer = L.Trainer(
        accelerator="cpu",
        devices=n_processes,
        strategy=several if n_processes > 1 else "auto",
        max_epochs=1,
        gradient_clip_val=0.1,
        callbacks=[checkpoints, Representation(1), *callbacks],
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
    """Of each task, what was logged without the kill and with it; of SimCLR also gone on with with sharded weights."""
    logged = {}
    for name in TASKS:
        whole = train(path, name, Checkpoints(directory / f"{name} whole", every_minutes=60))
        checkpoints = Checkpoints(directory / f"{name} killed", every_minutes=0)
        with pytest.raises(Killed):
            train(path, name, checkpoints, Kill())
        again = Checkpoints(directory / f"{name} again", every_minutes=60)
        logged[name] = [whole, train(path, name, again, resume_from=checkpoints.last)]
        if name != "simclr":
            continue
        sharded = Checkpoints(directory / f"{name} sharded", every_minutes=0, monitor="val/loss")
        with pytest.raises(Killed):
            train(path, name, sharded, Kill(), sharded=True)
        again = Checkpoints(directory / f"{name} sharded again", every_minutes=60, monitor="val/loss")
        logged[name].append(train(path, name, again, resume_from=checkpoints.last, sharded=True))
    return logged


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("resumed")


@pytest.fixture(scope="module")
def logged(random_scans, directory):
    """On both ranks."""
    return on_processes(2, killed_and_whole, random_scans.path, directory)


@pytest.mark.parametrize("task", TASKS)
def test_means_over_the_epoch_are_those_of_all_processes(logged, task):
    for rank in logged:
        whole, again, *sharded = rank[task]
        assert {"train/loss", "val/loss"} < whole.keys()
        assert again == pytest.approx(whole, rel=1e-6)
        assert sharded == [pytest.approx(whole, rel=1e-5)] * (task == "simclr")


@pytest.mark.parametrize(("task", "begun"), [("simclr", "killed"), ("simclr", "sharded"), ("multitask", "killed")])
def test_one_process_goes_on_with_what_two_began(logged, directory, random_scans, task, begun, tmp_path):
    again = Checkpoints(tmp_path, every_minutes=60)
    found = train(random_scans.path, task, again, resume_from=directory / f"{task} {begun}" / "last.ckpt")
    assert found == pytest.approx(logged[0][task][0], rel=1e-5, abs=1e-6)
    states = [torch.load(file, weights_only=True) for file in (again.last, directory / f"{task} whole" / "last.ckpt")]
    torch.testing.assert_close(*(state["state_dict"] for state in states), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*(state["optimizer_states"] for state in states), atol=1e-4, rtol=1e-4)


def test_checkpoints_of_shares_are_whole(logged, directory):
    """The same, whether a run was sharded to its end or not."""
    files = [directory / f"simclr {name}" / "last.ckpt" for name in ("sharded again", "whole")]
    states = [torch.load(file, weights_only=True) for file in files]
    for of in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(*(state[of] for state in states), atol=1e-4, rtol=1e-4)
    best = torch.load(files[0].with_name("best.ckpt"), weights_only=True)["state_dict"]
    for name in (name for name in best if not name.startswith("train_")):  # but for the epoch's mean
        torch.testing.assert_close(best[name], states[0]["state_dict"][name], atol=0, rtol=0)
