"""The frozen features are looked at through real training, and training does not notice."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neuro_ssl.callbacks import Representation
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.evaluation.representation import alignment, contrastive_accuracy, label_scores, rankme, uniformity
from neuro_ssl.tasks.mae import MAE
from neuro_ssl.views.random import view_keys
from tests.callbacks.labelled_brains import N, write_labelled_brains
from tests.callbacks.training import train

OF_FEATURES = {"rankme", "age_years_ridge_mae", "age_years_knn_mae", "sex_logistic_auroc", "sex_knn_auroc"}
OF_VIEWS = {"alignment", "uniformity", "contrastive_accuracy"}
COST = {"seconds", "share_of_time"}


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """Its test split cannot be read."""
    store = write_labelled_brains(tmp_path_factory.mktemp("labelled"))
    for volume in store.manifest["volume"][store.manifest["split"] == "test"]:
        (store.path / volume).write_bytes(b"no volume")
    return store


class Forgetful(ResNet3D):
    """Draws from the global random state in training, as dropout does."""

    def __init__(self):
        super().__init__(width=8)
        self.dropout = nn.Dropout(0.3)

    def forward(self, volume):
        return self.dropout(super().forward(volume))


def history(folder):
    return pd.read_csv(folder / "metrics.csv")


def measured(folder):
    """What was logged of the representation: a row each epoch, a column each metric."""
    table = history(folder)
    table = table[table["metric"].str.startswith("representation/")]
    table["metric"] = table["metric"].str.removeprefix("representation/")
    assert not table.duplicated(["epoch", "metric"]).any()
    return table.pivot(index="epoch", columns="metric", values="value")


@pytest.fixture(scope="module")
def watched(brains, tmp_path_factory):
    """Three epochs, measured after the second and the last, and the same without."""
    folders = [tmp_path_factory.mktemp(name) for name in ("watched", "alone")]
    states = []
    for folder, every in zip(folders, (2, 0), strict=True):
        torch.manual_seed(0)
        task, _ = train(brains, folder, Representation(every), encoder=Forgetful())
        states.append((task, torch.get_rng_state()))
    return folders, states


def test_training_is_the_same_bit_for_bit(watched):
    folders, ((task, random_state), (alone, random_state_alone)) = watched
    weights, expected = task.state_dict(), alone.state_dict()
    assert any("running_mean" in name for name in expected)
    for name in expected:
        assert weights[name].numpy().tobytes() == expected[name].numpy().tobytes(), name
    assert torch.equal(random_state, random_state_alone)
    with_it, without = (history(folder) for folder in folders)
    ours = with_it["metric"].str.startswith("representation/")
    pd.testing.assert_frame_equal(with_it[~ours].reset_index(drop=True), without)
    assert ours.any()


def test_it_is_measured_when_due_and_at_the_end(watched):
    table = measured(watched[0][0])
    assert list(table.index) == [1, 2]
    assert set(table) == OF_FEATURES | OF_VIEWS | COST
    assert table.notna().all(axis=None)
    assert (table["seconds"] > 0).all() and table["share_of_time"].between(0, 1).all()
    (step,) = set(history(watched[0][0]).query("epoch == 2 and metric == 'representation/rankme'")["step"])
    assert step == 29  # of 30, the last that any metric of that epoch is logged at


def test_the_numbers_are_those_of_the_final_weights(watched, brains):
    task = watched[1][0][0].eval()
    scans = {split: brains.manifest[brains.manifest["split"] == split] for split in ("train", "val")}
    volumes = {
        split: torch.tensor(np.stack([brains.read(v) for v in rows["volume"]]))[:, None].float()
        for split, rows in scans.items()
    }

    def standard(volume):
        brain = volume[volume > 0]
        return torch.where(volume > 0, (volume - brain.mean()) / brain.std(correction=0), 0)

    with torch.no_grad():  # one scan at a time
        x = {
            split: torch.cat([task.encoder(standard(v)[None]) for v in of_split]) for split, of_split in volumes.items()
        }
        number = torch.arange(N["val"])
        keys = [view_keys(0, 0 * number, number, view) for view in (0, 1)]
        first, second = (task.encoder(task.views(volumes["val"], key)) for key in keys)
    labelled = {split: rows.assign(subject=rows["subject_id"]) for split, rows in scans.items()}
    expected = label_scores(x["train"], labelled["train"], x["val"], labelled["val"]) | {
        "rankme": rankme(x["val"]),
        "alignment": alignment(first, second),
        "uniformity": (uniformity(first) + uniformity(second)) / 2,
        "contrastive_accuracy": contrastive_accuracy(
            first, second, torch.tensor(pd.factorize(scans["val"]["subject_id"])[0])
        ),
    }
    assert set(expected) == OF_FEATURES | OF_VIEWS
    last = measured(watched[0][0]).loc[2]
    for name, value in expected.items():
        assert last[name] == pytest.approx(float(value), rel=1e-3, abs=1e-5), name


def test_a_masked_autoencoder_has_no_views_to_compare(brains, tmp_path):
    encoder = ViT3D(width=24, n_layers=1, n_heads=2, patch_size=(5, 6, 6))
    train(brains, tmp_path, Representation(1), kind=MAE, encoder=encoder, n_epochs=1)
    assert set(measured(tmp_path)) == OF_FEATURES | COST


def test_few_labels_leave_the_probes_out(random_scans, tmp_path):
    train(random_scans, tmp_path, Representation(1), n_epochs=1)
    assert set(measured(tmp_path)) == {"rankme", *OF_VIEWS, *COST}


def test_a_bounded_number_of_scans_each_subject_before_one_comes_again(brains):
    from neuro_ssl.data.datamodule import SSLDataModule

    datamodule = SSLDataModule(brains, batch_size=2)
    n_subjects = N["val"] - 1
    for n in (5, n_subjects, N["val"], 512):
        scans = Representation(1, n_scans=n)._scans(datamodule, "val")
        assert len(scans) == min(n, N["val"]) and scans.index.is_monotonic_increasing
        assert scans["subject_id"].nunique() == min(n, n_subjects)
        assert set(scans["split"]) == {"val"}
        assert scans.equals(Representation(2, n_scans=n)._scans(datamodule, "val"))


class Overflows(ResNet3D):
    """Makes no numbers in evaluation mode, after the seven batches of validation."""

    n_batches = 0

    def forward(self, volume):
        self.n_batches += not self.training
        return super().forward(volume) * (torch.inf if self.n_batches > 7 else 1)


def test_features_that_are_no_numbers_are_warned_of(brains, tmp_path):
    with pytest.warns(UserWarning, match="some features are not finite"):
        train(brains, tmp_path, Representation(1), encoder=Overflows(width=8), n_epochs=1)
    names = set(history(tmp_path)["metric"])
    assert "val/rankme" in names and not any(name.startswith("representation/") for name in names)


@pytest.fixture
def arguments(tmp_path_factory, tmp_path):
    brains = write_labelled_brains(tmp_path_factory.mktemp("whole"))  # the command looks at all files
    return [
        *("+experiment=simclr_pretrain", "encoder.width=8", "strategy=cpu", "logger=csv", "trainer.max_epochs=2"),
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={brains.path.parents[2]}", "num_workers=1"),
        f"runs_dir={tmp_path}",
    ]


def test_the_command_says_once_what_it_costs_and_names_the_run_alike(arguments, tmp_path, command, capsys):
    command("train", *arguments, "representation_every_epochs=1")
    output = capsys.readouterr().out
    assert output.count("representation: measured in") == 1
    assert "after epoch 1" in output and "(representation_every_epochs=1)" in output
    (run,) = tmp_path.iterdir()
    assert list(measured(run).index) == [0, 1]
    command("train", *arguments, "representation_every_epochs=0")
    assert f"already finished: {run}" in capsys.readouterr().out


def test_refuses_a_negative_interval(arguments, tmp_path, command, capsys):
    with pytest.raises(SystemExit):
        command("train", *arguments, "representation_every_epochs=-1")
    error = capsys.readouterr().err
    assert error == "error: representation_every_epochs must be at least 0 (never), got -1\n"
    assert not list(tmp_path.iterdir())
