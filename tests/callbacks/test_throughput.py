import time

import lightning.pytorch as L
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from neuro_ssl.callbacks import Throughput
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.flops import training_flops
from neuro_ssl.tracking import MetricsCSV
from tests.callbacks.training import train


class Slow(Dataset):
    """Six batches of three scans, each of which takes its time."""

    def __init__(self, seconds):
        self.seconds, self.taken = seconds, []

    def __len__(self):
        return 6

    def __getitem__(self, index):
        begin = time.perf_counter()
        time.sleep(self.seconds)
        self.taken.append(time.perf_counter() - begin)
        return {"scan": torch.arange(3)}


class Sleeper(L.LightningModule):
    def __init__(self, seconds):
        super().__init__()
        self.weight, self.seconds, self.taken = nn.Parameter(torch.ones(())), seconds, []

    def training_step(self, batch, batch_idx):
        begin = time.perf_counter()
        time.sleep(self.seconds)
        self.taken.append(time.perf_counter() - begin)
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        time.sleep(0.2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Saves(L.Callback):
    """A slow save after the second step."""

    def __init__(self, directory):
        self.file = directory / "saved.ckpt"

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.file)

    def on_save_checkpoint(self, *args):
        time.sleep(0.3)


def metrics(directory):
    table = pd.read_csv(directory / "metrics.csv")
    table = table[table["metric"].str.startswith("throughput/")]
    return {(row.step, row.metric.removeprefix("throughput/")): row.value for row in table.itertuples()}


def test_speed_and_waiting_without_validation_and_saving(tmp_path):
    data, task = Slow(0.05), Sleeper(0.02)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        log_every_n_steps=6,
        callbacks=[Throughput(), Saves(tmp_path)],
        logger=MetricsCSV(str(tmp_path), "run"),
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(data, batch_size=None), DataLoader(Slow(0), batch_size=None))
    found = metrics(tmp_path)
    assert {step for step, _ in found} == {5, 11}
    assert {name for _, name in found} == {"scans_per_s", "waiting_share", "memory_gb"}  # of a CPU no peak is known
    for step, epoch in [(5, slice(0, 6)), (11, slice(6, 12))]:
        loading = sum(data.taken[epoch])
        seconds = loading + sum(task.taken[epoch])
        # Lightning's own work comes on top: hundredths of a second, against 0.3 s for saving and 1.2 s for validation.
        assert 18 / (seconds + 0.15) < found[step, "scans_per_s"] <= 18 / seconds
        assert loading / (seconds + 0.15) < found[step, "waiting_share"] < (loading + 0.15) / (seconds + 0.15)
    assert 0.1 < found[5, "memory_gb"] <= found[11, "memory_gb"] < 20


def test_model_flops_utilisation(random_scans, tmp_path):
    train(random_scans, tmp_path, throughput=Throughput(peak=1e10), log_every_n_steps=4, n_epochs=2)
    found = metrics(tmp_path)
    volume = training_flops(ResNet3D(width=8), random_scans.grid.shape)
    for step in (3, 7):
        expected = found[step, "scans_per_s"] * 2 * volume / 1e10  # two views of each scan
        assert found[step, "mfu"] == pytest.approx(expected, rel=1e-6)


class LooksInside(ResNet3D):
    def forward(self, volume):
        return super().forward(volume) * (2 if volume.max() > 0 else 1)


def test_an_encoder_that_cannot_be_counted_trains_all_the_same(random_scans, tmp_path):
    with pytest.warns(UserWarning, match="throughput/mfu is left out"):
        train(
            random_scans,
            tmp_path,
            encoder=LooksInside(width=8),
            throughput=Throughput(peak=1e10),
            log_every_n_steps=4,
            n_epochs=1,
        )
    assert "mfu" not in {name for _, name in metrics(tmp_path)}


def test_a_checkpoint_after_every_step_leaves_no_wait_to_measure(random_scans, tmp_path):
    train(random_scans, tmp_path, checkpoint_minutes=0, log_every_n_steps=2, n_epochs=1)
    found = metrics(tmp_path)
    assert (1, "waiting_share") in found  # for the epoch's first batch
    assert {name for step, name in found if step == 3} == {"scans_per_s", "memory_gb"}
