"""y-aware pretraining and micro-batches through the real command, on real brains; what a run is called after."""

import pandas as pd
import pytest
import yaml

from neuro_ssl.run_names import run_name


@pytest.fixture(scope="module")
def arguments(real_brains):
    tiny = ["dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", "logger=csv"]
    return [*tiny, "strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "encoder.width=8"]


def test_y_aware_with_micro_batches(arguments, tmp_path, command, capsys):
    arguments = [*arguments, "+experiment=yaware_pretrain", "encoder.norm=group", f"runs_dir={tmp_path}"]
    command("train", *arguments, "micro_batch_size=1")
    assert "with age_years of 2 train" in capsys.readouterr().out
    (run,) = tmp_path.glob("yaware_pretrain-*")
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert (record["stage"], record["covariates"]) == ("pretraining", ["age_years"])
    assert record["config"]["micro_batch_size"] == 1
    metrics = pd.read_csv(run / "metrics.csv").set_index("metric")["value"]
    assert {"train/loss", "train/contrastive_accuracy", "val/loss", "val/contrastive_accuracy"} <= set(metrics.index)
    assert metrics.notna().all()
    command("train", *arguments)  # group norm: the same run
    assert "already finished" in capsys.readouterr().out
    # What is made of these weights says so too.
    probe = ["+experiment=linear_probe", "task=brain_age", f"weights={run}", f"runs_dir={tmp_path}"]
    command("train", *(a for a in arguments if not a.startswith(("encoder", "+", "runs_dir"))), *probe)
    (probed,) = tmp_path.glob("linear_probe-*")
    assert yaml.safe_load((probed / "run.yaml").read_text())["covariates"] == ["age_years"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["+experiment=simclr_pretrain", "micro_batch_size=0"], "micro_batch_size must be at least 1"),
        (["+experiment=from_scratch", "micro_batch_size=2"], "micro_batch_size is for pretraining"),
        (["+experiment=yaware_pretrain", "task.covariates=[age_years,sex]"], "one bandwidth for each, got"),
        (["+experiment=yaware_pretrain", "task.bandwidths=[-1]"], "task.bandwidths must be at least 0"),
        (["+experiment=yaware_pretrain", "task.covariates=[sex]"], "set its bandwidth in task.bandwidths to 0"),
    ],
)
def test_refuses_in_one_line_before_anything_is_written(arguments, more, message, tmp_path, command, capsys):
    with pytest.raises(SystemExit):
        command("train", *arguments, f"runs_dir={tmp_path}", *more)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_micro_batches_name_another_run_only_where_they_matter():
    def name(**settings):
        nodes = {key: {} for key in ("trainer", "encoder", "optimizer", "dataset")}
        return run_name("simclr", {"name": "x", **nodes, **settings}, {}, None)

    assert name() == name(micro_batch_size=None)  # which is what train.py says for group norm
    assert len({name(), name(micro_batch_size=2), name(micro_batch_size=4)}) == 3
