"""Pictures of what a downstream run came to, drawn once it is finished.

    roc.png                classification: sensitivity by 1 − specificity
    predicted_vs_true.png  regression: predicted against true value of each scan
    saliency.png           gradient × input of a few validation scans: where the prediction would change with the image

The first two are of the test split, or of validation where that stayed closed; of several targets there is one for
each, such as `sex_roc.png`. All lie in the run directory, and loggers are offered them (see `offering`): a ROC curve as
an aggregate, the others as pictures of people. None holds an id.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as L
import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from neuro_ssl.callbacks.offering import offer_picture
from neuro_ssl.callbacks.saliency_figure import Shown, saliency_figure
from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.targets import Target
from neuro_ssl.data.volumes import Volumes
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS
from neuro_ssl.explaining.display import SMOOTHING_MM
from neuro_ssl.explaining.methods import attribution
from neuro_ssl.explaining.models import ExplainedModel
from neuro_ssl.files import appearing
from neuro_ssl.memory import is_out_of_memory
from neuro_ssl.reporting.agreement_figures import limits_of, predicted_vs_true
from neuro_ssl.reporting.panel import COLOURS, Panel
from neuro_ssl.reporting.prediction_figures import Predicted, roc
from neuro_ssl.run import RunDirectory
from neuro_ssl.views.intensity import normalise

N_SCANS = 3  # whose saliency is shown
FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian, in standard deviations


def draw_outcome(trainer: L.Trainer, run: RunDirectory, volumes: Volumes) -> None:
    """Draw all of them, in the first process alone; weights, random state and results stay as they are.

    Args:
        trainer: that trained, tested and is done; its loggers are offered the pictures.
        run: finished.
        volumes: that it was trained on.

    Warns:
        UserWarning: the device does not hold one scan with its gradient, so that there is no saliency.
    """
    results = run.results or run.validation
    assert results is not None
    table, split = pd.read_parquet(run.path / "predictions.parquet"), "test" if run.results else "val"
    scored = results.get("targets") or {"": results}
    for name, of_target in scored.items():
        rows = table[(table["task"] == of_target["task"]) & (table["split"] == split)]
        panel, aggregate = _predictions(of_target, rows, f"{'validation' if split == 'val' else split} split")
        kind = "roc" if aggregate else "predicted_vs_true"
        file = run.path / f"{name and name + '_'}{kind}.png"
        with appearing(file) as temporary:
            panel.image.savefig(temporary, format="png", dpi=110)  # type: ignore[union-attr]
        offer_picture(trainer, f"{split}/{name and name + '/'}{kind}", file, aggregate=aggregate)
    try:
        with _left_as_it_was():
            shown = _saliency(trainer.strategy.root_device, run, volumes, table, list(scored))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        warnings.warn(
            "saliency.png is left out: the device does not hold a scan with its gradient; python -m neuro_ssl.explain "
            f"weights={run.path} device=cpu explains this run",
            stacklevel=2,
        )
        return
    with appearing(run.path / "saliency.png") as temporary:
        saliency_figure(shown).savefig(temporary, format="png", dpi=110, facecolor="black")
    offer_picture(trainer, "saliency", run.path / "saliency.png")


def _predictions(results: dict[str, Any], rows: pd.DataFrame, split: str) -> tuple[Panel, bool]:
    """The picture of one target's predictions, and whether it is an aggregate."""
    metric, classes = ("auroc", True) if results["kind"] == "classification" else ("mae", False)
    values = {part: np.nan if value is None else value for part, value in results["scores"][metric].items()}
    score = Score(**values)
    model = Predicted(f"{results['task']}, {split}", COLOURS[0], rows, score)
    if classes:
        return roc(results["task"], [model], str(results["positive_class"])), True
    unit = results["unit"]
    name = METRICS["regression"][metric].label + (f" ({unit})" if unit else "")
    return predicted_vs_true(results["task"], model, limits_of([model]), unit, name), False


def _saliency(
    device: torch.device, run: RunDirectory, volumes: Volumes, table: pd.DataFrame, targets: list[str]
) -> list[Shown]:
    """What is shown of each target and validation scan."""
    weights, names = Weights.load(str(run.path)), volumes.manifest.set_index("scan_id")["volume"]
    sigma = SMOOTHING_MM / FWHM / volumes.grid.spacing_mm  # voxels
    shown = []
    for name in targets:
        explained = ExplainedModel.of(weights, name or None)
        assert explained.target is not None
        model = explained.build().to(device)
        rows = table[(table["split"] == "val") & (table["task"] == explained.target.name)].head(N_SCANS)
        columns = (rows[column] for column in ("scan_id", "prediction", "target"))
        for number, (scan, prediction, true) in enumerate(zip(*columns, strict=True), start=1):
            volume = np.asarray(volumes.read(str(names[scan])), np.float32)
            inputs = normalise(torch.from_numpy(volume)[None, None].to(device), weights.intensity)
            found = attribution("gradient_x_input", model, inputs)[0, 0].cpu().numpy()
            smooth = ndimage.gaussian_filter(found, sigma) * (volume > 0)
            about = f"scan {number}: {_in_words(explained.target, prediction, true)}"
            shown.append(Shown(explained.output, about, volume, smooth))
    return shown


def _in_words(target: Target, prediction: float, true: float) -> str:
    if target.classes:
        return f"probability of {target.classes[1]} {prediction:.2f}, truly {target.classes[int(true)]}"
    return f"predicted {prediction:.3g}, true {true:.3g}"


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Building an encoder draws random numbers; and what is only looked at need not be deterministic on a GPU."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.use_deterministic_algorithms(False)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
