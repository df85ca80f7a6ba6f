import json

import numpy as np
import pandas as pd
import pytest

from neuro_ssl.evaluation.calibration import thresholds
from neuro_ssl.evaluation.metrics import METRICS


def test_a_classification_decides_by_its_own_validation_split(random_scans, tmp_path, command, capsys):
    arguments = [
        *("+experiment=linear_probe", "task=sex", "dataset=csv", "dataset.cohort=c", "grid=16mm", "encoder.width=8"),
        *("strategy=cpu", "logger=csv", "num_workers=0", "trainer.max_epochs=2", f"runs_dir={tmp_path}"),
        f"data_dir={random_scans.path.parents[2]}",
    ]
    # While the test split is closed there are no decisions: on validation itself its thresholds do too well.
    command("train", *arguments, "open_test=false")
    (run,) = tmp_path.glob("linear_probe-*")
    val = pd.read_parquet(run / "predictions.parquet")
    assert not [name for name in val if name.startswith("decision")]
    scores = json.loads((run / "validation.json").read_text())["scores"]
    assert scores["sensitivity_at_specificity"]["value"] is scores["specificity_achieved"]["value"] is None
    called = val["prediction"] >= 0.5
    rates = [(called == label)[val["target"] == label].mean() for label in (True, False)]
    assert scores["balanced_accuracy"]["value"] == pytest.approx(np.mean(rates))
    shown = capsys.readouterr().out
    assert "balanced_accuracy" in shown and "specificity" not in shown

    command("train", *arguments)
    table = pd.read_parquet(run / "predictions.parquet")
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    assert len(val) == len(test) == 3
    chosen = thresholds(val["target"].to_numpy(float), val["prediction"].to_numpy(float))
    assert (table["decision"] == (table["prediction"] >= chosen.decision)).all()
    assert (table["decision_specific"] == (table["prediction"] >= chosen.specific)).all()
    results = json.loads((run / "results.json").read_text())
    assert list(results["scores"]) == list(results["baseline"]["scores"]) == list(METRICS["classification"])
    sensitivity, specificity = ((test["decision"] == label)[test["target"] == label].mean() for label in (True, False))
    assert results["scores"]["balanced_accuracy"]["value"] == pytest.approx((sensitivity + specificity) / 2)
    specific = test["decision_specific"][test["target"] == 0]
    assert results["scores"]["specificity_achieved"]["value"] == pytest.approx(1 - specific.mean())
    # The baseline has the training scans' share as its one probability, and no decisions of the model's.
    baseline = results["baseline"]["scores"]
    assert (baseline["auroc"]["value"], baseline["balanced_accuracy"]["value"]) == (0.5, 0.5)
    assert baseline["sensitivity_at_specificity"]["value"] is None
    assert baseline["brier"]["value"] == pytest.approx(
        np.mean((test["target"] - results["baseline"]["prediction"]) ** 2)
    )
    assert "sensitivity_at_specificity" in capsys.readouterr().out
