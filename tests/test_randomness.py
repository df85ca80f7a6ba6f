"""Order and views depend on (seed, epoch, draw, view) alone: not on workers, not on what was drawn before."""

import pandas as pd
import pytest
import torch

from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.samplers import Draw
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025
from neuro_ssl.views.standard import Standard

WORKERS = (0, 1, 3)


@pytest.fixture(scope="module")
def store(real_brains):
    return VolumeStore.find(real_brains / "stores" / "ixi", "8mm")


def simclr(views, seed=0):
    return SimCLR(ResNet3D(width=8), views, Optimizer(), seed)


def epochs(store, num_workers, n_epochs=3, seed=0):
    """The batches that a training process sees; the loader's workers live on from epoch to epoch."""
    loader = SSLDataModule(store, batch_size=1, num_workers=num_workers, seed=seed).train_dataloader()
    for epoch in range(n_epochs):
        loader.sampler.set_epoch(epoch)
        yield from loader


def test_the_run_is_the_same_with_any_number_of_workers(real_brains, tmp_path, command):
    for n in WORKERS:
        command(
            "train",
            *("+experiment=simclr_pretrain", "encoder.width=8", "encoder.norm=group", "strategy=cpu", "logger=csv"),
            *(
                "dataset=csv",
                "dataset.cohort=ixi",
                "grid=8mm",
                f"data_dir='{real_brains}'",
                f"runs_dir={tmp_path / str(n)}",
            ),
            *("batch_size=2", "trainer.max_epochs=2", f"num_workers={n}"),
        )
    (names,) = {tuple(path.name for path in (tmp_path / str(n)).glob("simclr_pretrain-*")) for n in WORKERS}
    first, *others = (tmp_path / str(n) / names[0] for n in WORKERS)
    assert len(pd.read_csv(first / "metrics.csv")) > 4
    weights = torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for run in others:
        assert (run / "metrics.csv").read_bytes() == (first / "metrics.csv").read_bytes()
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        torch.testing.assert_close(state, weights, atol=0, rtol=0)


def test_batches_are_the_same_with_any_number_of_workers(store):
    expected = list(epochs(store, 0))
    assert len(expected) == 6
    for n in WORKERS[1:]:
        torch.testing.assert_close(list(epochs(store, n)), expected, atol=0, rtol=0)
    other_seed = [batch["scan"].item() for batch in epochs(store, 0, n_epochs=8, seed=1)]
    assert other_seed != [batch["scan"].item() for batch in epochs(store, 0, n_epochs=8)]


@pytest.mark.parametrize("views", [Standard(), Kaczmarek2025()], ids=["standard", "kaczmarek2025"])
def test_no_epoch_repeats_a_view(store, views):
    task = simclr(views)
    made = [view for batch in epochs(store, 0, n_epochs=6) for view in task.make_views(batch)]
    assert len(made) == 2 * 2 * 6
    assert len({view.numpy().tobytes() for view in made}) == len(made)
    assert not any(torch.equal(*simclr(views, seed).make_views(next(epochs(store, 0)))) for seed in range(3))
    again = next(epochs(store, 0))
    for seed, same in ((0, True), (1, False)):
        assert torch.equal(simclr(views, seed).make_views(again)[0], made[0]) is same


@pytest.mark.parametrize("views", [Standard(), Kaczmarek2025()], ids=["standard", "kaczmarek2025"])
def test_a_scan_drawn_twice_in_an_epoch_gets_different_views(store, views):
    dataset = SSLDataModule(store, batch_size=2).datasets["train"]
    twice = dataset[[Draw(row=0, epoch=0, position=0), Draw(row=0, epoch=0, position=1)]]
    assert torch.equal(*twice["volume"])
    first, second = simclr(views).make_views(twice)
    a, b, c, d = *first, *second
    assert not any(torch.equal(x, y) for x, y in [(a, b), (a, c), (a, d), (b, c), (b, d), (c, d)])


def test_a_view_does_not_depend_on_the_rest_of_its_batch(store):
    """So it cannot depend on how a batch is shared out over ranks."""
    dataset = SSLDataModule(store, batch_size=2).datasets["train"]
    draws = [Draw(0, 3, 0), Draw(1, 3, 1)]
    together = simclr(Standard()).make_views(dataset[draws])
    for i, draw in enumerate(draws):
        for view, whole in zip(simclr(Standard()).make_views(dataset[[draw]]), together, strict=True):
            torch.testing.assert_close(view[0], whole[i], atol=1e-5, rtol=1e-5)
