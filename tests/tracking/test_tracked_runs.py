"""What trackers hold of real runs, read from their files."""

import getpass
import hashlib
import hmac
import json
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.faults.wandb_server import WandbServer
from tests.tracking import datastore
from tests.tracking.conftest import WHO


def test_nothing_that_leaves_tells_who_or_where(tracked):
    """Of what `wandb sync` uploads, every byte and every decoded text, names of files included."""
    places = [
        str(Path.home()),
        str(Path.cwd()),
        str(tracked[0].parent),
        str(tracked[0].parents[1]),
        "/tmp",
        "pytest-of",
    ]
    for run in tracked:
        folder = datastore.offline_folder(run)
        uploaded = [*folder.glob("*.wandb"), *(file for file in folder.glob("files/**/*") if file.is_file())]
        content = b"".join(str(file.relative_to(folder)).encode() + file.read_bytes() for file in uploaded)
        content += json.dumps(datastore.as_plain(run)).encode()
        assert b"train/loss" in content and b"train/loss" in uploaded[0].read_bytes()  # it isn't compressed
        for word in (WHO, *places):
            assert word.lower().encode() not in content.lower(), word
        words = set(re.findall(rb"[\w.-]+", json.dumps(datastore.as_plain(run)).encode()))
        assert not words & {getpass.getuser().encode(), socket.gethostname().encode()}


def tensorboard(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name != "epoch"]
    found = [((event.step, name), event.value) for name in names for event in events.Scalars(name)]
    assert len(dict(found)) == len(found)  # once each
    return dict(found)


def test_scalars_are_the_same_everywhere(tracked):
    for run in tracked:
        table = pd.read_csv(run / "metrics.csv")
        expected = {(row.step, row.metric): row.value for row in table.itertuples()}
        assert len(expected) == len(table) > 15
        for found in (datastore.scalars(run), tensorboard(run)):
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert np.float32(found[key]) == pytest.approx(np.float32(value), rel=2**-22, nan_ok=True), key


def test_runs_say_what_they_are(tracked):
    pretraining, downstream = tracked
    told = [datastore.about(run) for run in tracked]
    assert [each.run_id for each in told] == [pretraining.name, downstream.name]
    assert [each.job_type for each in told] == ["pretraining", "downstream"]
    assert [each.run_group for each in told] == ["simclr_pretrain", "of seeds"]
    assert [set(each.tags) for each in told] == [
        {"simclr", "resnet18", "c", "pretraining"},
        {"sex", "resnet18", "c", "downstream"},
    ]
    assert told[1].display_name == f"finetune-sex, resnet18, seed 1, {downstream.name[-8:]}"


def test_the_configuration_can_be_filtered_by(tracked):
    pretraining, downstream = tracked
    config, record = datastore.config(downstream), yaml.safe_load((downstream / "run.yaml").read_text())
    for key in ("optimizer", "trainer", "encoder", "task", "split"):
        assert config[key] == record["config"][key]
    assert config["seed"] == 1
    assert config["weights"] == pretraining.name
    assert not {"data_dir", "runs_dir"} & config.keys()
    assert config["facts"]["dataset"]["n_subjects"] == {"train": 5, "val": 2, "test": 2}
    assert "demographics" in record["dataset"] and "demographics" not in config["facts"]["dataset"]
    assert config["facts"]["leakage"]["verdict"] == "disjoint"
    for key in ("versions", "commit", "hardware", "encoder"):
        assert config["facts"][key] == record[key]
    for key in ("manifest_hash", "preprocessing_hash", "split_hash"):
        assert config["facts"]["dataset"][key] == record["dataset"][key]


def test_the_summary_holds_final_scores_with_intervals(tracked):
    pretraining, downstream = map(datastore.summary, tracked)
    record = yaml.safe_load((tracked[1] / "run.yaml").read_text())
    scores = json.loads((tracked[1] / "results.json").read_text())["scores"]
    for metric, score in scores.items():
        for part, name in {"value": "", "low": "_low", "high": "_high"}.items():
            assert downstream.get(f"test/{metric}{name}") == score[part]
    assert sum(value["low"] is not None for value in scores.values()) > 1
    assert downstream["best/val/auroc"] == record["validation"]["value"]
    history = pd.read_csv(tracked[1] / "metrics.csv").query("metric == 'val/auroc'").set_index("epoch")["value"]
    assert downstream["best/epoch"] == history.idxmax()
    for found, run in zip((pretraining, downstream), tracked, strict=True):
        assert found["status"] == "finished"
        assert found["duration_s"] == yaml.safe_load((run / "run.yaml").read_text())["duration_s"]


def test_lineage_by_name_and_hash(tracked):
    pretraining, downstream = tracked
    digest = hashlib.sha256((pretraining / "checkpoints" / "last.ckpt").read_bytes()).hexdigest()
    made = [each for each in datastore.artifacts(pretraining) if not each.use_after_commit]
    used = {each.type: each for each in datastore.artifacts(downstream) if each.use_after_commit}
    assert [each.name for each in made] == [used["model"].name] == [pretraining.name]
    assert made[0].digest == used["model"].digest  # by which W&B takes them for one
    (entry,) = used["model"].manifest.contents
    assert entry.ref == f"neuro-ssl://{pretraining.name}/last.ckpt#sha256={digest}"
    assert not entry.local_path
    assert json.loads(made[0].metadata) == {"sha256": digest}
    lineage = datastore.config(downstream)["lineage"]
    assert lineage["weights"] == {"name": pretraining.name, "sha256": digest}
    manifest = yaml.safe_load((downstream / "run.yaml").read_text())["dataset"]["manifest_hash"]
    assert lineage["manifest"]["hash"] == manifest
    assert used["dataset"].manifest.contents[0].ref == f"neuro-ssl://c/manifest#hash={manifest}"
    assert used["dataset"].digest == next(a.digest for a in datastore.artifacts(pretraining) if a.type == "dataset")


def test_predictions_leave_by_keyed_hashes(tracked):
    _, downstream = tracked
    (file,) = datastore.offline_folder(downstream).glob("files/media/table/predictions_*.table.json")
    content = json.loads(file.read_text())
    table, predictions = pd.DataFrame(content["data"], columns=content["columns"]), downstream / "predictions.parquet"
    key_file = downstream.parent / ".tracking_key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    expected = pd.read_parquet(predictions)
    for column in ("subject", "scan"):
        hashed = [
            hmac.digest(bytes.fromhex(key_file.read_text()), name.encode(), "sha256").hex()[:16]
            for name in expected[f"{column}_id"]
        ]
        assert table[column].tolist() == hashed
    assert set(table) == {"subject", "scan", "split", "task", "target", "prediction"}
    np.testing.assert_allclose(table["prediction"], expected["prediction"])


@pytest.mark.slow
def test_syncing_an_offline_run_draws_its_lineage(tracked, tmp_path, monkeypatch):
    """W&B's own command, against a stand-in for its server; that takes no files, at which the command ends."""
    pretraining, downstream = tracked
    server = WandbServer()
    for name, value in {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0123456789" * 4}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE")
    sync = [sys.executable, "-m", "wandb", "sync", str(datastore.offline_folder(downstream))]
    subprocess.run(sync, capture_output=True, check=False, timeout=100, cwd=tmp_path)
    server.off()
    bodies = [body for _, body in server.asked]
    made = [json.loads(body)["variables"]["input"] for body in bodies if "mutation CreateArtifact (" in body]
    assert {one["artifactCollectionName"] for one in made} == {"c", pretraining.name, downstream.name}
    used = [json.loads(body)["variables"]["input"] for body in bodies if "mutation UseArtifact (" in body]
    assert [one["runName"] for one in used] == [downstream.name] * 2
    assert not any(WHO.lower() in body.lower() for body in bodies)
