import numpy as np
import pandas as pd
from fake_runs import pretraining_run

from neuro_ssl.reporting.runs.curves import LOSSES, pretraining_curves
from neuro_ssl.reporting.runs.figures import middle_slices
from neuro_ssl.reporting.runs.reading import read_runs


def test_middle_slices_show_right_on_the_right_and_superior_on_top():
    volume = np.ones((7, 9, 11), np.float32)  # z, y, x
    z, y, x = 5, 7, 9  # superior, anterior, right of the middle
    volume[3, y, x] = volume[z, 4, x] = volume[z, y, 5] = 5
    squares = middle_slices(volume).reshape(11, 3, 11).swapaxes(0, 1)
    brightest = [np.unravel_index(square.argmax(), square.shape) for square in squares]
    # rows count from the top, in squares of 11 with the slice in the middle
    assert [tuple(map(int, b)) for b in brightest] == [
        (1 + (8 - y), x),  # axial: anterior on top, right on the right
        (2 + (6 - z), x),  # coronal: superior on top
        (2 + (6 - z), 1 + y),  # sagittal: anterior on the right
    ]


def test_standardised_volumes_keep_a_black_background():
    volume = np.zeros((6, 6, 6), np.float32)
    volume[1:5, 1:5, 1:5] = np.random.default_rng(0).normal(0, 1, (4, 4, 4))
    squares = middle_slices(volume)
    assert squares[0].max() == 0
    assert squares.min() == 0
    assert squares.max() == 1


def test_every_curve_of_pretraining_has_something_in_it_and_says_what(tmp_path):
    pretraining_run(tmp_path / "simclr_pretrain-1a2b3c4d")
    file = tmp_path / "simclr_pretrain-1a2b3c4d" / "metrics.csv"
    names = [f"representation/{name}" for name in ("rankme", "sex_knn_auroc", "sex_logistic_auroc", "seconds")]
    names.append("throughput/memory_gb")
    more = [{"epoch": epoch, "step": 4 * epoch, "metric": name, "value": 0.7} for name in names for epoch in (9, 19)]
    pd.concat([pd.read_csv(file), pd.DataFrame(more)]).to_csv(file, index=False)
    curves = pretraining_curves(read_runs(tmp_path).pretraining)
    assert [[panel.caption for panel in panels] for panels in curves.values()] == [
        ["Loss: training (dashed) and validation (solid)"],
        [
            "Contrastive accuracy: training (dashed) and validation (solid)",
            "RankMe (effective rank): validation (solid)",
            "RankMe of frozen features: validation scans (solid)",
        ],
        ["Sex: AUROC: nearest neighbours (dashed) and logistic (solid)"],
    ]
    (loss,) = curves[LOSSES]
    recorded = pd.read_csv(file).query("metric == 'val/loss'")
    for epoch, value in zip(recorded["epoch"], recorded["value"], strict=True):
        assert f"Loss, validation, epoch {epoch + 1:.0f}: {value:.4g}" in loss.html
