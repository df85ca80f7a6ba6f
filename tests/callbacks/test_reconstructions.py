"""Pictures of reconstructions, and what a masked autoencoder's run leaves, through the real commands on real brains."""

import base64

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

import neuro_ssl
from neuro_ssl.callbacks.reconstructions import COLUMNS, HIDDEN, reconstruction_figure
from neuro_ssl.tasks.masked_autoencoder import Reconstruction
from neuro_ssl.tracking import wandb_logger
from tests.conftest import run_command


@pytest.fixture(scope="module", params=["mae", "simclr_mae"])
def run(request, real_brains, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    tiny = ["encoder.width=24", "encoder.n_heads=2", "encoder.n_layers=1", "encoder.patch_size=[5,6,6]"]
    data = ["dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={runs}"]
    how = ["strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"]
    run_command("train", f"+experiment={request.param}_pretrain", *tiny, *data, *how)
    run_command("report", f"runs_dir={runs}")
    return next(runs.glob(f"{request.param}_pretrain-*"))


def test_a_run_leaves_metrics_views_and_a_picture(run):
    metrics = pd.read_csv(run / "metrics.csv").set_index("metric")["value"]
    assert {"train/loss", "val/loss"} < set(metrics.index)
    assert ("val/reconstruction_loss" in metrics) is run.name.startswith("simclr_mae")
    assert metrics.notna().all()
    views = np.load(run / "views.npz")
    assert set(views) == {"original", "view1"} | ({"view2"} if run.name.startswith("simclr_mae") else set())
    shape, side = next(iter(views.values())).shape, max(next(iter(views.values())).shape[1:])
    assert matplotlib.image.imread(run / "views.png").shape[:2] == (len(views) * side, shape[0] * 3 * side)
    picture = matplotlib.image.imread(run / "reconstructions.png")
    assert min(picture.shape[:2]) > 500 and picture[..., :3].std() > 0.1


def test_the_report_shows_it(run):
    page = (run.parent / "report" / "report.html").read_text()
    assert base64.b64encode((run / "reconstructions.png").read_bytes()).decode() in page


def test_its_weights_are_the_encoders_alone(run):
    encoder = neuro_ssl.load_encoder(run)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("autoencoder.") for name in state)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[f"encoder.{name}"]), name


def test_pictures_are_upright_and_show_what_they_say():
    """A brain, brighter in its right front top, of which a patch is masked and another one left out."""
    view = torch.zeros(1, 1, 8, 8, 8)
    view[..., 1:7, 1:7, 1:7] = 1
    view[..., 4:, 4:, 4:] *= 3
    masked, hidden = torch.zeros_like(view, dtype=torch.bool), torch.zeros_like(view, dtype=torch.bool)
    masked[..., 4:, 4:, 4:] = hidden[..., 4:, 4:, 4:] = True
    hidden[..., :4, :4, :4] = True
    prediction = torch.full_like(view, 2.0)
    figure = reconstruction_figure(view, Reconstruction(torch.ones(1), prediction, masked, hidden), "now")
    rows = np.reshape(figure.axes[:12], (3, 4))
    assert [axis.get_title() for axis in rows[0]] == list(COLUMNS)
    for row, (plane, ends) in zip(rows, {"axial": "LR", "coronal": "LR", "sagittal": "PA"}.items(), strict=True):
        assert row[0].get_ylabel() == f"scan 1, {plane}\nloss 1.00"
        assert [text.get_text() for text in row[0].texts] == list(ends)
        original, seen, whole, error = (axis.images[0].get_array() for axis in row)
        top_right, elsewhere = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
        top_right[:4, 4:] = True
        elsewhere[4:, :4] = True
        assert original[1:4, 4:7].min() > original[4:7, 1:4].max()  # rows run downward
        assert (seen[top_right] == HIDDEN).all() and not (seen[elsewhere] == HIDDEN).any()
        np.testing.assert_array_equal(whole[elsewhere], original[elsewhere])
        assert (error[1:4, 4:7] == 1).all() and (error[elsewhere] == 0).all()  # |2 − 3|


@pytest.mark.parametrize("images", ["local", "upload"])
def test_pictures_stay_on_the_machine_unless_told_otherwise(images, tmp_path):
    matplotlib.image.imsave(tmp_path / "picture.png", np.eye(8))
    (tmp_path / "run").mkdir()
    logger = wandb_logger(str(tmp_path / "run"), "test", mode="offline", images=images)
    logger.log_image("reconstructions", [str(tmp_path / "picture.png")], 1)
    logger.experiment.finish()
    assert images == "upload" or not list(tmp_path.glob("run/**/*.png"))
    assert len(list(tmp_path.glob("run/wandb/offline-run-*/**/*.png"))) == (images == "upload")
