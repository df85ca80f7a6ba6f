"""A run ends when its validation score gets no better: where the history of one that went through says so."""

import pandas as pd
import pytest
import yaml


def naive_end(scores, patience, better):
    """The number of epochs after which training ends, by the scores of a run that went through."""
    for epoch in range(patience, len(scores)):
        best_before = scores[: epoch - patience + 1]
        best = min(best_before) if better == "lower" else max(best_before)
        later = scores[epoch - patience + 1 : epoch + 1]
        if all(score >= best if better == "lower" else score <= best for score in later):
            return epoch + 1
    return len(scores)


@pytest.fixture
def arguments(random_scans, tmp_path):
    return [
        *("+experiment=from_scratch", "encoder.width=8", "batch_size=4", "trainer.max_epochs=8", "open_test=false"),
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={random_scans.path.parents[2]}"),
        *("logger=csv", "num_workers=0", "strategy=cpu"),
    ]


def only_run(runs):
    (run,) = runs.glob("from_scratch-*")
    metrics = pd.read_csv(run / "metrics.csv")
    return run, yaml.safe_load((run / "run.yaml").read_text()), metrics


@pytest.mark.parametrize(
    ("task", "better"), [("brain_age", "lower"), pytest.param("sex", "higher", marks=pytest.mark.slow)]
)
def test_it_ends_where_its_history_says(arguments, tmp_path, command, capsys, task, better):
    of = [*arguments, f"task={task}"]
    command("train", *of, f"runs_dir={tmp_path / 'whole'}", "early_stopping_patience=null")
    run, record, whole = only_run(tmp_path / "whole")
    metric = record["validation"]["metric"]
    scores = whole[whole["metric"] == metric]["value"].tolist()
    assert record["epochs_trained"] == len(scores) == 8
    best = min(scores) if better == "lower" else max(scores)
    assert record["validation"]["value"] == pytest.approx(best, rel=1e-6)
    end = naive_end(scores, 2, better)
    assert 3 <= end < 8  # else there is nothing to see

    capsys.readouterr()
    command("train", *of, f"runs_dir={tmp_path / 'stopped'}", "early_stopping_patience=2")
    assert f"stopped after epoch {end} of 8: {metric} got no better in 2" in capsys.readouterr().out
    stopped, record, metrics = only_run(tmp_path / "stopped")
    assert record["epochs_trained"] == end
    assert stopped.name != run.name
    kept = whole[~whole["metric"].str.startswith("throughput/") & (whole["epoch"] < end)]
    metrics = metrics[~metrics["metric"].str.startswith("throughput/")]
    pd.testing.assert_frame_equal(metrics.reset_index(drop=True), kept.reset_index(drop=True))


@pytest.mark.parametrize(
    ("recipe", "patience", "message"),
    [("from_scratch", 0, "at least 1, or null"), ("simclr_pretrain", 3, "is for downstream tasks")],
)
def test_refuses(arguments, tmp_path, command, capsys, recipe, patience, message):
    of = [argument for argument in arguments if "experiment" not in argument]
    with pytest.raises(SystemExit):
        command("train", f"+experiment={recipe}", *of, f"runs_dir={tmp_path}", f"early_stopping_patience={patience}")
    assert "error: early_stopping_patience" in (error := capsys.readouterr().err)
    assert message in error
