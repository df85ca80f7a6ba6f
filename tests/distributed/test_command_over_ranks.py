"""The real commands on several processes, that torchrun or Lightning starts: what one process makes, to within 1e-4.

Group norm, since PyTorch synchronises batch norm on GPUs alone (`test_on_gpus`).
"""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from tests.conftest import run_command
from tests.distributed.started_by_torchrun import run_killed
from tests.evaluating.conftest import SPLITS, make_cohort

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.sync_batchnorm=false")
RECIPES = {
    "simclr_pretrain": ("encoder.width=8", "encoder.norm=group"),
    "mae_pretrain": ("encoder.width=24", "encoder.n_heads=2", "encoder.n_layers=1", "encoder.patch_size=[5,6,6]"),
    "from_scratch": ("encoder.width=8", "encoder.norm=group", "early_stopping_patience=null"),
    "linear_probe": ("encoder.width=8", "encoder.norm=group"),
}
TIMING = ("throughput/", "representation/seconds", "representation/share_of_time")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """`data_dir` with a store of 30 scans to train on, 12 to select and 17 to test."""
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, "own", SPLITS, 0)
    return folder


@pytest.fixture(scope="module")
def of(cohort):
    """Arguments of a command: ten optimiser steps, in batches of 6."""

    def arguments(recipe, runs):
        of_cohort = ("dataset=csv", "dataset.cohort=own", "grid=16mm", f"data_dir='{cohort}'", "num_workers=0")
        training = ("batch_size=6", "trainer.max_epochs=2", "logger=csv", "representation_every_epochs=2")
        return [f"+experiment={recipe}", *RECIPES[recipe], *of_cohort, *training, f"runs_dir='{runs}'"]

    return arguments


def only_run(runs):
    (run,) = runs.glob("*-*")
    return run


@pytest.fixture(scope="module")
def one(of, tmp_path_factory):
    """What one process makes of each recipe."""
    folder = tmp_path_factory.mktemp("one")
    for recipe in RECIPES:
        run_command("train", *of(recipe, folder / recipe), "strategy=cpu")
    return folder


def evaluation_of(cohort, one, runs):
    """An evaluation of what one process pretrained, with a training of its own."""
    return [
        *("dataset=csv", "dataset.cohort=own", "grid=16mm", f"data_dir='{cohort}'", f"runs_dir='{runs}'"),
        *(f"encoders={{ours: '{only_run(one / 'simclr_pretrain')}'}}", "n_untrained=1", "tasks=[brain_age]"),
        *("protocols=[ridge_probe]", "from_scratch=['resnet18 encoder.width=8 encoder.norm=group']", "num_workers=0"),
        *("statistics.n_resamples=200", "statistics.n_permutations=500", f"features_dir='{runs}/features'"),
        f"train='trainer.max_epochs=1 trainer.devices=1 logger=csv {' '.join(CPU)}'",
    ]


@pytest.fixture(scope="module")
def evaluated(cohort, one, tmp_path_factory):
    """What one process finds."""
    runs = tmp_path_factory.mktemp("evaluated")
    run_command("evaluate", *evaluation_of(cohort, one, runs), "strategy=cpu")
    return runs


def torchrun(commands, folder, n_processes, n_nodes=1):
    """Run commands under torchrun, with one agent a node, all on this machine; what they print, agent by agent."""
    file = folder / "commands.json"
    file.write_text(json.dumps([[name, step, list(map(str, arguments))] for name, step, arguments in commands]))
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n_processes}"]
    agents = [["--standalone"]]
    if n_nodes > 1:
        with socket.socket() as some:
            some.bind(("127.0.0.1", 0))
            port = some.getsockname()[1]
        meeting = [f"--nnodes={n_nodes}", "--master-addr=127.0.0.1", f"--master-port={port}"]
        agents = [[*meeting, f"--node-rank={node}"] for node in range(n_nodes)]
    started = [
        subprocess.Popen(
            [*launcher, *agent, "-m", "tests.distributed.started_by_torchrun", file],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for agent in agents
    ]
    try:
        outputs = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * n_nodes, "\n".join(outputs)
    return outputs


def assert_equal_runs(run, expected, within=1e-4):
    """All that is logged but times, all weights, and predictions."""
    assert run.name == expected.name
    tables = []
    for folder in (run, expected):
        table = pd.read_csv(folder / "metrics.csv").sort_values(["epoch", "step", "metric"])
        tables.append(table[~table["metric"].str.startswith(TIMING)].reset_index(drop=True))
        assert yaml.safe_load((folder / "run.yaml").read_text())["status"] == "finished"
    pd.testing.assert_frame_equal(*tables, atol=within, rtol=within)
    for file in ("last.ckpt", "best.ckpt"):
        if not (expected / "checkpoints" / file).exists():
            continue
        ours, theirs = (torch.load(folder / "checkpoints" / file, weights_only=True) for folder in (run, expected))
        assert ours["global_step"] == theirs["global_step"]
        torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], atol=within, rtol=within)
    if (expected / "predictions.parquet").exists():
        both = (pd.read_parquet(folder / "predictions.parquet") for folder in (run, expected))
        pd.testing.assert_frame_equal(*both, atol=within, rtol=within)


@pytest.mark.parametrize(("n_nodes", "n_processes"), [(1, 2), (1, 4), (2, 2)])
def test_torchrun_makes_the_same(of, one, cohort, evaluated, tmp_path, n_nodes, n_processes):
    """Whether weights are sharded or not, and of runs that one process began and all go on with."""
    several = (f"trainer.devices={n_processes}", f"trainer.num_nodes={n_nodes}", *CPU)
    commands = []
    for strategy in ("ddp", "fsdp"):
        for recipe in RECIPES:
            commands.append(
                ("train", None, [*of(recipe, tmp_path / strategy / recipe), f"strategy={strategy}", *several])
            )
    begun = [*of("simclr_pretrain", tmp_path / "begun"), "checkpoint_minutes=0"]
    run_killed(3, "train", *begun, "strategy=cpu")
    shutil.copytree(tmp_path / "begun", tmp_path / "then sharded")
    commands.append(("train", None, [*begun, "strategy=ddp", *several]))
    sharded = of("simclr_pretrain", tmp_path / "then sharded")
    commands.append(("train", None, [*sharded, "strategy=fsdp", *several]))
    features = [f"weights={only_run(one / 'mae_pretrain')}", "dataset=csv", "dataset.cohort=own", "grid=16mm"]
    features += [f"data_dir='{cohort}'", "num_workers=0", "part_size=4"]
    commands.append(("embed", None, [*features, f"output={tmp_path / 'all.parquet'}", "strategy=ddp", *several]))
    # The last, since the first process alone goes on to the end of it.
    commands.append(("evaluate", None, [*evaluation_of(cohort, one, tmp_path / "evaluated"), "strategy=ddp", *several]))
    outputs = torchrun(commands, tmp_path, n_processes, n_nodes)

    for strategy in ("ddp", "fsdp"):
        for recipe in RECIPES:
            assert_equal_runs(only_run(tmp_path / strategy / recipe), only_run(one / recipe))
    for again in ("begun", "then sharded"):
        assert_equal_runs(only_run(tmp_path / again), only_run(one / "simclr_pretrain"))
    for name in ("scores.csv", "comparisons.csv"):
        ours, theirs = (
            next(runs.glob(f"evaluation-*/results-*/{name}")) for runs in (tmp_path / "evaluated", evaluated)
        )
        pd.testing.assert_frame_equal(pd.read_csv(ours), pd.read_csv(theirs), atol=1e-4, rtol=1e-4)
    run_command("embed", *features, f"output={tmp_path / 'one.parquet'}", "strategy=cpu")
    both = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("all", "one"))
    pd.testing.assert_frame_equal(*both, atol=1e-4, rtol=1e-4)
    said = "".join(outputs)
    assert said.count(f"finished: {tmp_path}") == 2 * len(RECIPES) + 3, said
    assert said.count("going on from its last checkpoint") == 2
    assert "warning" not in said.lower(), said


def test_one_process_goes_on_with_what_two_began(of, one, tmp_path):
    """Whether their weights were whole or sharded."""
    two = ("trainer.devices=2", *CPU)
    commands = []
    for strategy in ("ddp", "fsdp"):
        arguments = [*of("simclr_pretrain", tmp_path / strategy), "checkpoint_minutes=0", f"strategy={strategy}", *two]
        commands.append(("train", 3, arguments))
    torchrun(commands, tmp_path, 2)
    for strategy in ("ddp", "fsdp"):
        run_command("train", *of("simclr_pretrain", tmp_path / strategy), "strategy=cpu")
        assert_equal_runs(only_run(tmp_path / strategy), only_run(one / "simclr_pretrain"))


def test_errors_are_told_once_unless_one_process_alone_meets_them(of, tmp_path):
    arguments = [*of("simclr_pretrain", tmp_path), "strategy=ddp", "trainer.devices=3", *CPU]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*launcher, "neuro_ssl.train", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode
    assert done.stderr.count("error: torchrun started 2 processes") == 1
    assert "error in process 1" not in done.stderr


def test_lightning_starts_processes_too(of, tmp_path):
    """Stopped early, with layer-wise rates."""
    arguments = [*of("from_scratch", "RUNS")[:-1], "trainer.max_epochs=9", "early_stopping_patience=2"]
    arguments.append("optimizer.layer_decay=0.75")
    run_command("train", *arguments, "strategy=cpu", f"runs_dir={tmp_path / 'one'}")
    two = ["strategy=ddp", "trainer.devices=2", *CPU, f"runs_dir={tmp_path / 'two'}"]
    subprocess.run([sys.executable, "-m", "neuro_ssl.train", *arguments, *two], check=True, timeout=180)
    run = only_run(tmp_path / "two")
    assert yaml.safe_load((run / "run.yaml").read_text())["epochs_trained"] < 9
    assert_equal_runs(run, only_run(tmp_path / "one"), within=1e-3)  # rounding grows over nine epochs
