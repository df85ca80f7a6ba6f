"""Figures say what scikit-learn and the tables say of the same predictions."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay, auc, average_precision_score

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.scores import score_predictions
from neuro_ssl.reporting.agreement_figures import MAX_MARKS, bland_altman, limits_of, predicted_vs_true
from neuro_ssl.reporting.panel import COLOURS
from neuro_ssl.reporting.prediction_figures import Predicted, calibration, precision_recall, roc

SCORE = Score(0.7, 0.6, 0.8)


def table_of(kind, n=40, replicates=(0,), folds=1, seed=0):
    rng = np.random.default_rng(seed)
    scan, parts = np.arange(n), []
    target = (scan % 3 == 0).astype(float) if kind == "classification" else rng.uniform(20, 90, n)
    for replicate in replicates:
        if kind == "classification":
            prediction = (1 / (1 + np.exp(-(2 * target - 1 + 1.5 * rng.normal(size=n))))).round(2)  # with ties
        else:
            prediction = 55 + 0.7 * (target - 55) + rng.normal(0, 6, n)
        columns = {"scan_id": [f"secret-{i}" for i in scan], "subject_id": [f"secret-{i // 2}" for i in scan]}
        columns |= {
            "target": target,
            "prediction": prediction,
            "replicate": replicate,
            "fold": rng.permuted(scan % folds),
        }
        parts.append(pd.DataFrame(columns | {"sex": np.array(["F", "M"])[scan % 2], "age_years": 40 + scan}))
    return pd.concat(parts, ignore_index=True)


def lines_of(panel, label):
    """Curves of a model: its line, without the marks on it."""
    (axes,) = panel.image.axes
    return next(line for line in axes.lines if str(line.get_label()).startswith(f"{label}: "))


def tips_of(panel):
    return re.findall(r'data-tip="([^"]*)"', panel.html)


def test_a_single_curve_is_scikit_learns():
    table = table_of("classification")
    model = Predicted("Ours", COLOURS[0], table, SCORE)
    x, y = lines_of(roc("Sex", [model], "M"), "Ours").get_data()
    expected = RocCurveDisplay.from_predictions(table["target"], table["prediction"])
    np.testing.assert_allclose(np.stack([x, y]), np.stack([expected.fpr, expected.tpr]))
    panel = precision_recall("Sex", [model], "M")
    x, y = lines_of(panel, "Ours").get_data()
    expected = PrecisionRecallDisplay.from_predictions(table["target"], table["prediction"])
    for recall, precision in zip(expected.recall[:-1], expected.precision[:-1], strict=True):
        assert precision <= y[np.flatnonzero(np.isclose(x, recall))[-1]] + 1e-12  # the best of those with one recall
        assert np.isclose(expected.precision[np.isclose(expected.recall, recall)].max(), y[np.isclose(x, recall)][-1])
    area = average_precision_score(table["target"], table["prediction"])
    assert np.sum(np.diff(x) * y[1:]) == pytest.approx(area)
    assert f"Ours: {area:.2f}" in lines_of(panel, "Ours").get_label()


def test_the_area_under_a_mean_curve_is_the_score_of_the_tables():
    """Over replicates, and for the AUROC within folds, as `evaluation.metrics` has it."""
    table = table_of("classification", replicates=(0, 1, 2), folds=3)
    scores = score_predictions(table, "classification", n_resamples=20)
    model = Predicted("Ours", COLOURS[0], table, scores["auroc"])
    x, y = lines_of(panel := roc("Sex", [model], "M"), "Ours").get_data()
    assert auc(x, y) == pytest.approx(scores["auroc"].value, abs=1e-6)
    assert panel.caption.endswith("seeds, repetitions or folds, a curve is their mean.")
    x, y = lines_of(precision_recall("Sex", [model], "M"), "Ours").get_data()
    assert np.sum(np.diff(x) * y[1:]) == pytest.approx(scores["average_precision"].value)


def test_models_of_one_colour_differ_in_line_style_and_are_highlighted_apart():
    models = [Predicted(name, COLOURS[0], table_of("classification", seed=i), SCORE) for i, name in enumerate("ab")]
    for panel in (roc("Sex", models, "M"), precision_recall("Sex", models, "M"), calibration("Sex", models, "M")):
        styles = {line.get_linestyle() for line in panel.image.axes[0].lines if line.get_marker() == "None"}
        assert {"-", "--"} <= styles
        assert {'data-series="a"', 'data-series="b"'} <= set(re.findall(r'data-series="."', panel.html))


def test_operating_points_and_bins_say_their_numbers():
    model = Predicted("Ours", COLOURS[0], table := table_of("classification"), SCORE)
    points = [tip for tip in tips_of(roc("Sex", [model], "M")) if "sensitivity" in tip]
    assert points
    for tip in points:
        sensitivity, specificity, cut = map(float, re.findall(r"\d\.\d\d", tip))
        called, positive = table["prediction"] >= cut, table["target"] == 1
        assert sensitivity == pytest.approx(called[positive].mean(), abs=0.006)
        assert specificity == pytest.approx(1 - called[~positive].mean(), abs=0.006)
    bins = tips_of(calibration("Sex", [model], "M"))
    assert len(bins) == 2  # 20 subjects, 10 a bin
    low = table[table["prediction"] <= table["prediction"].median()]
    assert bins[0].startswith(f"Ours: predicted {low['prediction'].mean():.2f}, observed {low['target'].mean():.2f}")


def test_one_class_alone_has_no_curve():
    table = table_of("classification").assign(target=1.0)
    panel = roc("Sex", [Predicted("Ours", COLOURS[0], table, Score(np.nan, np.nan, np.nan))], "M")
    assert len(panel.image.axes[0].lines) == 1  # the diagonal
    assert "n/a" in panel.alt


def test_points_say_who_they_are_but_for_ids():
    table = table_of("regression")
    model = Predicted("Ours", COLOURS[0], table, SCORE)
    for panel in (predicted_vs_true("MMSE", model, limits_of([model]), None, "MAE"), bland_altman("MMSE", model, None)):
        first = table.iloc[0]
        assert f"true {first['target']:.1f}, predicted {first['prediction']:.1f}; 40 years, F" in tips_of(panel)
        assert len([tip for tip in tips_of(panel) if tip.startswith("true")]) == len(table)
        assert "secret" not in panel.html
    low, high = limits_of([model])
    assert low < table[["target", "prediction"]].min().min() and high > table[["target", "prediction"]].max().max()


def test_bland_altman_draws_the_mean_of_replicates_with_its_limits():
    table = table_of("regression", replicates=(0, 1))
    panel = bland_altman("Age", Predicted("Ours", COLOURS[0], table, SCORE), "years")
    mean = table.groupby("scan_id", sort=False).mean(numeric_only=True)
    difference = (mean["prediction"] - mean["target"]).to_numpy()
    (cloud,) = (line for line in panel.image.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(cloud.get_data(), [(mean["prediction"] + mean["target"]) / 2, difference])
    lower, upper = difference.mean() + 1.959964 * difference.std(ddof=1) * np.array([-1, 1])
    heights = [line.get_ydata()[0] for line in panel.image.axes[0].lines if line.get_marker() == "None"]
    np.testing.assert_allclose(heights, [0, difference.mean(), lower, upper], rtol=1e-6)
    assert panel.caption.endswith("years. Points are means over 2 seeds or repetitions, which err less than one.")
    assert f"limits of agreement {lower:.2f} [" in panel.caption and f"{upper:.2f} [" in panel.caption


def test_thousands_of_points_are_a_picture():
    table = table_of("regression", n=MAX_MARKS + 1)
    panel = bland_altman("Age", Predicted("Ours", COLOURS[0], table, SCORE), "years")
    assert "<image" in panel.html and not [tip for tip in tips_of(panel) if tip.startswith("true")]


def test_names_with_dollars_are_no_formulas():
    model = Predicted(r"ours $\frac$", COLOURS[0], table_of("classification"), SCORE)
    panel = roc(r"Sex of $x$", [model], "$M$")
    assert r"ours $\frac$: AUROC 0.70" in panel.html
    assert r"<!-- ours $\frac$: 0.70 -->" in panel._drawn[0]
