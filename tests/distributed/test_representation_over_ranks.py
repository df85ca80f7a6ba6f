"""Two processes measure of the representation what one does, shares of unequal size."""

import lightning.pytorch as L
import pytest
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from neuro_ssl.callbacks import Progress, Representation
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.distributed import world_size
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.views.standard import Standard
from tests.callbacks.labelled_brains import write_labelled_brains
from tests.distributed.processes import on_processes


class Memory(Logger):
    """Keeps what this process logs."""

    name, version = "memory", ""

    def __init__(self):
        super().__init__()
        self.metrics = {}

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics


def trained(path):
    """One epoch; what was logged of the representation, and whether the encoder trains on."""
    L.seed_everything(0, verbose=False)
    task = SimCLR(ResNet3D(width=8, norm="group"), Standard(), Optimizer(), seed=1)
    n_processes, logger = world_size(), Memory()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=n_processes,
        strategy=DDPStrategy(process_group_backend="gloo") if n_processes > 1 else "auto",
        max_epochs=1,
        # Of 11 scans, two processes have 6 and 5. The progress bar is drawn by the first one alone.
        callbacks=[Progress(), Representation(1, n_scans=11)],
        logger=logger,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(task, SSLDataModule(VolumeStore.open(path), 4, seed=1))
    cost = ("representation/seconds", "representation/share_of_time")
    return {
        name: value for name, value in logger.metrics.items() if name.startswith("representation/") and name not in cost
    }


def test_two_processes_measure_the_same(tmp_path):
    path = write_labelled_brains(tmp_path).path
    one = trained(path)
    first, second = on_processes(2, trained, path)
    assert {"representation/rankme", "representation/alignment", "representation/age_years_ridge_mae"} < one.keys()
    assert first == pytest.approx(one, rel=1e-5, abs=1e-5)
    assert second == {}  # the first one measures
