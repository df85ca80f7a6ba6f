"""Every kind of training through the real Trainer: two processes compute what one does, shares of unequal size.

Group norm: PyTorch's synchronised batch norm refuses the CPU.
"""

import dataclasses

import lightning.pytorch as L
import pandas as pd
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.samplers import Sampling
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import read_targets
from neuro_ssl.distributed import gather_objects, world_size
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.mae import MAE
from neuro_ssl.tasks.multitask import Multitask
from neuro_ssl.tasks.results import prediction_table
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.tasks.simclr_mae import SimCLRMAE
from neuro_ssl.tasks.supervised import Supervised
from neuro_ssl.tasks.yaware import YAware
from neuro_ssl.views.standard import Standard
from tests.distributed.processes import on_processes

BATCH_SIZE = 4  # 7 training scans: batches of 4 and 3, so 2 + 2 and 2 + 1 on two processes; 3 held-out ones: 2 + 1


class Watch(L.Callback):
    """Notes which draws each step saw on this rank, its loss weighted for DDP, and the gradients after averaging."""

    def __init__(self):
        self.draws, self.gradients = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.draws.append(list(zip(*(batch[name].tolist() for name in ("scan", "epoch", "draw")), strict=True)))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append({n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None})


LEARNT = {
    "age_years": {"target": "age_years"},
    "sex": {"target": "sex", "classes": ["F", "M"]},
    "multitask": {
        "targets": {"age": {"target": "age_years"}, "sex": {"target": "sex", "classes": ["F", "M"], "weight": 2}}
    },
}


def with_gaps(store):
    """The store without the ages of rows 0, 3, 5, 6, 7, 12, and without the sexes of rows 1, 2, 9."""
    manifest = store.manifest.copy()
    manifest.loc[[0, 3, 5, 6, 7, 12], "age_years"] = None
    manifest.loc[[1, 2, 9], "sex"] = None
    return dataclasses.replace(store, manifest=manifest)


def trained(path, task_name):
    """Train two epochs on as many processes as there are, and say what happened."""
    store, n_processes = VolumeStore.open(path), world_size()
    L.seed_everything(0, verbose=False)
    parts = {"encoder": ResNet3D(width=8, norm="group"), "views": Standard(), "optimizer": Optimizer(), "seed": 1}
    if task_name in PRETRAINING:
        size = 1 if "micro_batches" in task_name else None
        if "mae" in task_name or "bf16" in task_name:
            parts["encoder"] = ViT3D(width=24, n_layers=1, n_heads=2, patch_size=(5, 6, 6))
        if "mae" in task_name:
            task = (MAE if task_name == "mae" else SimCLRMAE)(**parts, foreground_only=True)
        else:
            task = (YAware if task_name == "yaware" else SimCLR)(**parts, temperature=0.5, micro_batch_size=size)
        more = {"covariates": task.covariates, "volumes_on_host": size is not None}
        datamodule = SSLDataModule(store, BATCH_SIZE, seed=1, **more)
    else:
        sampling = Sampling(balance="class" if task_name == "sex" else None)
        if task_name == "multitask":
            store = with_gaps(store)
        datamodule = SupervisedDataModule(
            store, read_targets(task_name, LEARNT[task_name]), BATCH_SIZE, seed=1, sampling=sampling
        )
        mean, sd = datamodule.target_statistics
        kind = Multitask if task_name == "multitask" else Supervised
        task = kind(**parts, frozen=False, target_mean=mean, target_sd=sd, **LEARNT[task_name])
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=n_processes,
        strategy=DDPStrategy(process_group_backend="gloo") if n_processes > 1 else "auto",
        max_epochs=2,
        callbacks=[watch],
        precision="bf16-mixed" if "bf16" in task_name else "32-true",
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    table = None
    if task_name not in PRETRAINING:
        outputs = {split: trainer.predict(task, datamodule.loader(split)) for split in ("val", "test")}
        table = prediction_table(datamodule, outputs)
    every_rank = gather_objects([watch.draws])
    draws = [[draw for share in step for draw in share] for step in zip(*every_rank, strict=True)]
    return {"watched": watch.draws, "draws": draws, "gradients": watch.gradients, "metrics": metrics, "table": table}


PRETRAINING = ("simclr", "micro_batches", "micro_batches in bf16", "yaware", "mae", "simclr_mae")
TASKS = (*PRETRAINING, "age_years", "sex", "multitask")
EXACT = [task for task in TASKS if "bf16" not in task]


def all_trained(path):
    return {name: trained(path, name) for name in TASKS}


@pytest.fixture(scope="module")
def one_and_two(random_scans):
    """What each task did on one process, and on both ranks of two."""
    return all_trained(random_scans.path), on_processes(2, all_trained, random_scans.path)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_global_batches(one_and_two, task):
    one, two = one_and_two
    assert [len(step) for step in one[task]["draws"]] == [4, 3, 4, 3]
    for rank in two:
        assert rank[task]["draws"] == one[task]["draws"]


@pytest.mark.parametrize("task", EXACT)
def test_the_same_gradients(one_and_two, task):
    one, two = one_and_two
    for rank in two:
        for expected, found in zip(one[task]["gradients"], rank[task]["gradients"], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(two[0][task]["gradients"], two[1][task]["gradients"], atol=0, rtol=0)


def test_micro_batches_change_nothing(one_and_two):
    """Nor does it matter that the host keeps the volumes."""
    for run in (one_and_two[0], *one_and_two[1]):
        for expected, found in zip(run["simclr"]["gradients"], run["micro_batches"]["gradients"], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert run["micro_batches"]["metrics"] == pytest.approx(run["simclr"]["metrics"], rel=1e-5, abs=1e-5)


def test_the_same_gradients_in_mixed_precision(one_and_two):
    """To within bfloat16's rounding, of which a number has three digits; in later steps Adam makes more of it."""
    one, two, other = (run["micro_batches in bf16"]["gradients"] for run in (one_and_two[0], *one_and_two[1]))
    expected, found = (torch.cat([gradient.flatten() for gradient in steps[0].values()]) for steps in (one, two))
    assert (found - expected).norm() < 0.02 * expected.norm()
    torch.testing.assert_close(two, other, atol=0, rtol=0)


def test_covariates_matter(one_and_two):
    losses = [one_and_two[0][task]["metrics"]["train/loss"] for task in ("simclr", "yaware")]
    assert abs(losses[0] - losses[1]) > 1e-2


@pytest.mark.parametrize("task", EXACT)
def test_the_same_metrics(one_and_two, task):
    one, two = one_and_two
    assert {"train/loss", "val/loss"} <= set(one[task]["metrics"])
    for rank in two:
        assert rank[task]["metrics"] == pytest.approx(one[task]["metrics"], rel=1e-5, abs=1e-5)


def test_the_processes_hold_uneven_numbers_of_labels(one_and_two):
    """So that the tests above mean something: one process has none of a target that the other has."""
    steps = zip(*(rank["multitask"]["watched"] for rank in one_and_two[1]), strict=True)
    aged = [[sum(scan in (1, 2, 4) for scan, _, _ in draws) for draws in step] for step in steps]
    assert any(0 in counts and any(counts) for counts in aged)


@pytest.mark.parametrize("task", TASKS[len(PRETRAINING) :])
def test_the_same_predictions_each_scan_once(one_and_two, task):
    one, two = one_and_two
    assert len(one[task]["table"]) == (9 if task == "multitask" else 6)
    for rank in two:
        pd.testing.assert_frame_equal(rank[task]["table"], one[task]["table"], rtol=1e-5)
