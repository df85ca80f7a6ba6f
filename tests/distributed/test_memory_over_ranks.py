"""Two processes, of which one holds less: they agree on what both hold, and neither waits for the other in a trial."""

import lightning.pytorch as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from neuro_ssl.callbacks import MicroBatchSize
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.distributed import alone, gather_objects, rank, world_size
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.run import RunDirectory
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.views.standard import Standard
from tests.distributed.processes import on_processes

HOLDS = [4, 2]  # scans, of 4 and 3 a step


class Limited(ResNet3D):
    """More than this process's device holds is an error, if gradients are wanted."""

    def forward(self, volume):
        if len(volume) > 2 * HOLDS[dist.get_rank()] and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(volume)


class Shown(L.Callback):
    """The gradients after averaging, of the first step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients = [p.grad.clone() for p in pl_module.parameters()]


def trained(path, folder):
    """One step by each process; the number, and the gradients."""
    L.seed_everything(0, verbose=False)
    task = SimCLR(Limited(width=8, norm="group"), Standard(), Optimizer(), seed=1)
    run, shown = RunDirectory(folder), Shown()
    if rank() == 0:
        folder.mkdir()
        run.note(status="running")
    trainer = L.Trainer(
        accelerator="cpu",
        devices=world_size(),
        strategy=DDPStrategy(process_group_backend="gloo"),
        max_steps=1,
        limit_val_batches=0,
        callbacks=[MicroBatchSize(run), shown],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, SSLDataModule(VolumeStore.open(path), 7, seed=1, volumes_on_host=True))
    return task.micro_batch_size, shown.gradients, run.record


def nobody_else():
    """What an `alone` process sees of the others; in the end all of them again."""
    layer = nn.SyncBatchNorm(2)
    with alone(layer):
        inside = world_size(), gather_objects([rank()]), layer.process_group is not None
    return inside, world_size(), gather_objects([rank()]), layer.process_group


def both(path, folder):
    return trained(path, folder), nobody_else()


def test_the_smaller_number_counts(random_scans, tmp_path):
    ranks = on_processes(2, both, random_scans.path, tmp_path / "run")
    (first, second) = (trained for trained, _ in ranks)
    assert first[0] == second[0] == first[2]["micro_batch_size"] == 2
    torch.testing.assert_close(first[1], second[1], atol=0, rtol=0)
    for _, seen in ranks:
        assert seen == ((1, [0], True), 2, [0, 1], None)
