"""What the CPU can't do, tried where there are two GPUs: synchronised batch norm, NCCL, mixed precision.

pytest -m slow tests/distributed/test_on_gpus.py
"""

import subprocess
import sys

import pandas as pd
import pytest
import torch

from tests.distributed.test_command_over_ranks import ROOT, TIMING, assert_equal_runs, cohort, of, only_run  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]
FULL = ("trainer.precision=32-true", "trainer.deterministic=true")


def train(arguments):
    """In a process of its own: this one must not hold the GPUs."""
    subprocess.run([sys.executable, "-m", "neuro_ssl.train", *map(str, arguments)], cwd=ROOT, check=True, timeout=300)


@pytest.fixture(scope="module")
def one(of, tmp_path_factory):  # noqa: F811
    """What one GPU makes, with batch norm."""
    folder = tmp_path_factory.mktemp("one GPU")
    for recipe in ("simclr_pretrain", "from_scratch"):
        train([*of(recipe, folder / recipe), "encoder.norm=batch", "strategy=gpu", *FULL])
    return folder


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("recipe", ["simclr_pretrain", "from_scratch"])
def test_two_gpus_normalise_over_the_whole_batch(of, one, tmp_path, recipe, strategy):  # noqa: F811
    two = ["encoder.norm=batch", f"strategy={strategy}", "trainer.devices=2", *FULL]
    train([*of(recipe, tmp_path), *two])
    # The same run by name, but for sync_batchnorm, which is part of it.
    ours, theirs = only_run(tmp_path), only_run(one / recipe)
    tables = [pd.read_csv(run / "metrics.csv").sort_values(["epoch", "step", "metric"]) for run in (ours, theirs)]
    tables = [table[~table["metric"].str.startswith(TIMING)].reset_index(drop=True) for table in tables]
    pd.testing.assert_frame_equal(*tables, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("recipe", ["simclr_pretrain", "mae_pretrain", "from_scratch"])
def test_sharded_weights_in_mixed_precision(of, tmp_path, recipe):  # noqa: F811
    """As the strategy files have it: DDP and FSDP take the same steps, to within bfloat16's rounding."""
    runs = []
    for strategy in ("ddp", "fsdp"):
        train([*of(recipe, tmp_path / strategy), f"strategy={strategy}", "trainer.devices=2"])
        runs.append(only_run(tmp_path / strategy))
    assert_equal_runs(*runs, within=5e-2)
