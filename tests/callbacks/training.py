"""SimCLR or other pretraining through the real Trainer on a store of noise, with the callbacks of `neuro_ssl.train`."""

import lightning.pytorch as L
from torch import nn

from neuro_ssl.callbacks import Checkpoints, Health, Progress, Throughput
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.tracking import MetricsCSV
from neuro_ssl.views.intensity import per_sample, standardise
from neuro_ssl.views.random import between


class Brightness(nn.Module):
    """Views as plain as can be."""

    def forward(self, volume, keys):
        volume = volume.float()
        image = volume * per_sample(between(keys, "brightness", 0.5, 1.5)) + volume.square()
        return standardise(image, volume > 0)


def train(
    store,
    directory,
    *more_callbacks,
    kind=SimCLR,
    optimizer=None,
    encoder=None,
    throughput=None,
    n_epochs=3,
    **settings,
):
    """Four batches an epoch; returns the task and the trainer."""
    L.seed_everything(0, verbose=False)
    task = kind(encoder or ResNet3D(width=8), Brightness(), optimizer or Optimizer(), seed=0)
    callbacks = [
        throughput or Throughput(),
        Health(store.manifest["scan_id"]),
        Checkpoints(directory / "checkpoints", settings.pop("checkpoint_minutes", 60)),
        Progress(),
        *more_callbacks,
    ]
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=n_epochs,
        callbacks=callbacks,
        logger=MetricsCSV(str(directory), "run"),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=directory,
        **settings,
    )
    trainer.fit(task, SSLDataModule(store, batch_size=2))
    return task, trainer
