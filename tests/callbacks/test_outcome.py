"""What a finished downstream run shows, and what of it its tracker gets, through the real command."""

import re
import subprocess
import sys

import lightning.pytorch as L
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

from neuro_ssl.callbacks import draw_outcome, outcome
from neuro_ssl.callbacks.saliency_figure import Shown, saliency_figure
from neuro_ssl.dashboards.charts import DOWNSTREAM, STEP
from neuro_ssl.run import RunDirectory
from tests.conftest import run_command

PICTURES = {"brain_age_predicted_vs_true.png", "saliency.png", "sex_roc.png"}


@pytest.fixture(scope="module")
def run(random_scans, tmp_path_factory):
    """A run that predicts age and sex, tracked offline."""
    runs = tmp_path_factory.mktemp("runs")
    data = ["dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir='{random_scans.path.parents[2]}'"]
    how = ["strategy=cpu", "num_workers=0", "batch_size=4", "trainer.max_epochs=1", "logger=wandb", "encoder.width=8"]
    run_command("train", "+experiment=from_scratch", "task=multitask", *data, *how, f"runs_dir={runs}")
    return RunDirectory(next(runs.glob("from_scratch-*")))


def test_pictures_lie_in_the_run_directory(run):
    assert {file.name for file in run.path.glob("*.png")} == PICTURES
    for name in PICTURES:
        picture = matplotlib.image.imread(run.path / name)
        assert min(picture.shape[:2]) > 200 and picture[..., :3].std() > 0.05, name


def test_the_dashboard_finds_its_steps_and_validation_scores(run):
    metrics = set(pd.read_csv(run.path / "metrics.csv")["metric"])
    (pattern,) = (chart.pattern for chart in DOWNSTREAM if chart.pattern)
    (tracked,) = run.path.glob("wandb/offline-run-*/*.wandb")
    assert STEP.encode() in tracked.read_bytes()  # which is not compressed
    assert {name for name in metrics if re.search(pattern, name)} == {"val/brain_age/mae", "val/sex/auroc"}


def test_aggregates_alone_go_to_the_tracker(run):
    """Of all that `wandb sync` would send."""
    (tracked,) = run.path.glob("wandb/offline-run-*")
    media = list(tracked.glob("files/media/**/*.png"))
    assert [file.read_bytes() for file in media] == [(run.path / "sex_roc.png").read_bytes()]
    assert "roc" in media[0].name


def test_drawing_leaves_everything_else_as_it_is(run, random_scans):
    def files(ending):
        return {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file() and ending(file)}

    before, pictures = files(lambda file: file.suffix != ".png"), files(lambda file: file.suffix == ".png")
    for name in PICTURES:
        (run.path / name).unlink()
    state = torch.get_rng_state()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        draw_outcome(L.Trainer(accelerator="cpu", logger=False), run, random_scans)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(torch.get_rng_state(), state)
    assert files(lambda file: file.suffix != ".png") == before
    assert {file: file.read_bytes() for file in pictures if file.parent == run.path} == {
        file: content for file, content in pictures.items() if file.parent == run.path
    }


def test_saliency_says_what_was_predicted_and_what_is_true(run, random_scans, monkeypatch):
    said = []
    monkeypatch.setattr(outcome, "saliency_figure", lambda scans: said.extend(scans) or saliency_figure(scans))
    draw_outcome(L.Trainer(accelerator="cpu", logger=False), run, random_scans)
    table, people = pd.read_parquet(run.path / "predictions.parquet"), random_scans.manifest.set_index("scan_id")
    rows = table[table["split"] == "val"].set_index("scan_id").join(people[["age_years", "sex"]], rsuffix="_on_file")
    expected = [
        f"predicted {row.prediction:.3g}, true {row.age_years:.3g}"
        if row.task == "brain_age"
        else f"probability of M {row.prediction:.2f}, truly {row.sex}"
        for row in rows.itertuples()
    ]
    assert sorted(scan.about.partition(": ")[2] for scan in said) == sorted(expected)
    assert len(said) == 6


@pytest.mark.slow
def test_a_training_does_not_begin_with_what_it_hardly_ever_draws():
    code = "import sys, neuro_ssl.callbacks; print('monai.visualize' in sys.modules)"  # half a second
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_without_memory_for_a_gradient_the_run_stands(run, random_scans, monkeypatch):
    def refuses(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    (run.path / "saliency.png").unlink()
    monkeypatch.setattr(outcome, "attribution", refuses)
    with pytest.warns(UserWarning, match=f"neuro_ssl.explain weights={run.path} device=cpu"):
        draw_outcome(L.Trainer(accelerator="cpu", logger=False), run, random_scans)
    assert not (run.path / "saliency.png").exists()


def test_saliency_is_upright_and_red_where_it_raises_the_output():
    """A brain whose right front top raises the output, and whose left back bottom lowers it half as much."""
    volume, found = np.zeros((2, 12, 12, 12), np.float32)
    volume[2:10, 2:10, 2:10] = 1
    found[6:10, 6:10, 6:10] = 2
    found[2:6, 2:6, 2:6] = -1
    figure = saliency_figure([Shown("predicted age (years)", "scan 1: 40, true 41", volume, found)])
    mosaic = figure.axes[0].images[0].get_array()
    gap = len(mosaic) - 12
    assert mosaic.shape == (12 + gap, 3 * (12 + gap), 3)
    axial, coronal, sagittal = (mosaic[gap:, i * (12 + gap) + gap // 2 :][:, :12] for i in range(3))
    for plane in (axial, coronal, sagittal):  # the middle slices run through the part that raises it
        red = plane[..., 0] - plane[..., 2] > 0.3
        assert red[2:6, 6:10].all() and red.sum() == 16
        assert np.allclose(plane[6:10, 2:6], 1)
    lower = saliency_figure([Shown("", "", volume, -found)]).axes[0].images[0].get_array()
    assert (lower[..., 2] - lower[..., 0] > 0.3).sum() == 3 * 16
    assert {text.get_text() for text in figure.axes[0].texts} == {"scan 1: 40, true 41", "L", "R"}
