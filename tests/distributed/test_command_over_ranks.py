"""The real command on two processes, which Lightning starts: the same run as on one, with the same numbers."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("simclr_pretrain", []),
        ("from_scratch", ["early_stopping_patience=null"]),
        ("from_scratch", ["trainer.max_epochs=9", "early_stopping_patience=2", "optimizer.layer_decay=0.75"]),
    ],
    ids=["simclr_pretrain", "from_scratch", "stopped early"],
)
def test_two_processes_make_the_same_run(random_scans, tmp_path, command, recipe, more):
    arguments = [
        *(f"+experiment={recipe}", "encoder.width=8", "encoder.norm=group", "batch_size=4", "trainer.max_epochs=2"),
        *("dataset=csv", "dataset.cohort=c", "grid=16mm", f"data_dir={random_scans.path.parents[2]}"),
        *("logger=csv", "num_workers=1", *more),
    ]
    command("train", *arguments, "strategy=cpu", f"runs_dir={tmp_path / 'one'}")
    two = [*arguments, "strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"runs_dir={tmp_path / 'two'}"]
    two += ["trainer.precision=32-true", "trainer.sync_batchnorm=false"]  # of GPUs
    subprocess.run([sys.executable, "-m", "neuro_ssl.train", *two], check=True, timeout=180)
    one, two = (next((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert one.name == two.name
    records = [yaml.safe_load((run / "run.yaml").read_text()) for run in (one, two)]
    assert records[0]["epochs_trained"] == records[1]["epochs_trained"]
    if "trainer.max_epochs=9" in more:
        assert records[0]["epochs_trained"] < 9
    tolerance = 1e-4 if len(more) < 2 else 1e-3  # rounding grows over nine epochs
    keys = ["epoch", "step", "metric"]
    timing = ["representation/seconds", "representation/share_of_time"]
    tables = (pd.read_csv(run / "metrics.csv").sort_values(keys) for run in (one, two))
    one_table, two_table = (table[~table["metric"].isin(timing)].reset_index(drop=True) for table in tables)
    of_test = one_table["metric"].str.startswith("test/")  # slopes of three scans: rounding weighs more
    for rows, within in ((~of_test, tolerance), (of_test, 1e-3)):
        pd.testing.assert_frame_equal(one_table[rows], two_table[rows], atol=within, rtol=within)
    if recipe == "from_scratch":
        pd.testing.assert_frame_equal(
            *(pd.read_parquet(run / "predictions.parquet") for run in (one, two)), atol=1e-3, rtol=1e-4
        )
        scores = [json.loads((run / "results.json").read_text())["scores"] for run in (one, two)]
        assert scores[0]["mae"]["value"] == pytest.approx(scores[1]["mae"]["value"], rel=1e-3)
