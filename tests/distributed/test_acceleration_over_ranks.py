"""Compiled encoders under real DDP, and throughput that counts all processes and shows the one that waits most."""

import time

import lightning.pytorch as L
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from neuro_ssl.acceleration import Acceleration
from neuro_ssl.callbacks import Throughput
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.tracking import MetricsCSV
from neuro_ssl.views.standard import Standard
from tests.distributed.processes import on_processes


class SlowOnRankOne(SSLDataModule):
    """Its second process takes 0.2 s more for every batch."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        if dist.is_initialized() and dist.get_rank() == 1:
            time.sleep(0.2)
        return batch


def trained(path, directory, acceleration):
    n_processes = dist.get_world_size() if dist.is_initialized() else 1
    store = VolumeStore.open(path)
    L.seed_everything(0, verbose=False)
    encoder = ResNet3D(width=8, norm="group")
    acceleration.apply(encoder, torch.device("cpu"))
    task = SimCLR(encoder, Standard(), Optimizer(fused=True), seed=1)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=n_processes,
        strategy=DDPStrategy(process_group_backend="gloo") if n_processes > 1 else "auto",
        max_epochs=3,
        log_every_n_steps=4,
        callbacks=[Throughput(peak=1e10)],
        logger=MetricsCSV(str(directory), "run"),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, SlowOnRankOne(store, batch_size=4))
    return task.state_dict()


@pytest.mark.slow
def test_two_processes(random_scans, tmp_path):
    fast = Acceleration(compile=True, backend="aot_eager", channels_last=True)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    plain = trained(random_scans.path, tmp_path / "one", Acceleration())
    for weights in on_processes(2, trained, random_scans.path, tmp_path / "two", fast):
        assert weights.keys() == plain.keys()
        for name, tensor in plain.items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4, msg=name)

    table = pd.read_csv(tmp_path / "two" / "metrics.csv")
    (row,) = table[table["metric"].str.startswith("throughput/")].groupby("step")
    found = row[1].set_index("metric")["value"]
    # Four steps of 4, 3, 4 and 3 scans; the second process waited at least 0.8 s, the first one for it.
    seconds = 14 / found["throughput/scans_per_s"]
    assert seconds > 0.8
    assert found["throughput/waiting_share"] > 0.8 / seconds
    assert 0 < found["throughput/mfu"] < 1
