"""The same with memory that really runs out: of a process with a limit, and of a GPU."""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.grid import Grid

# When training starts, all is imported, and the process gets so many MB more.
LIMITED = """
import resource, sys
import neuro_ssl.train
from neuro_ssl.callbacks import Progress

megabytes, original = int(sys.argv.pop(1)), Progress.on_train_start

def on_train_start(self, trainer, *args):
    original(self, trainer, *args)
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + megabytes * 2**20,) * 2)

Progress.on_train_start = on_train_start
neuro_ssl.train.main()
"""


def scans_of_noise(folder, spacing):
    """A store in `stores/c` with sixteen scans to train on and two to validate."""
    grid, random = Grid.named(spacing), np.random.default_rng(0)
    images = [folder / f"{i}.nii" for i in range(18)]
    for image in images:
        image.write_text(image.name)
    table = {"subject_id": [f"c/{i}" for i in range(18)], "image_path": map(str, images)}
    scans = add_scan_ids(validate(pd.DataFrame(table | {"split": ["train"] * 16 + ["val"] * 2}), "c.csv"))
    writer = StoreWriter(folder / "stores" / "c", grid, {"version": 1})
    for row in scans.itertuples():
        volume = random.uniform(0.5, 1.5, grid.shape).astype(np.float16)
        writer.write(row.scan_id, volume, {"brain_ml": 1200.0}, np.eye(4), [row.image_path])
    writer.finish(scans, "c", simulated=True)


def arguments(folder, spacing, *more):
    return [
        *("+experiment=simclr_pretrain", "batch_size=16", "num_workers=0", "logger=csv", "trainer.max_epochs=1"),
        *("dataset=csv", "dataset.cohort=c", f"grid={spacing}", f"data_dir={folder}", f"runs_dir={folder / 'runs'}"),
        *("representation_every_epochs=0", *more),
    ]


def fits(error):
    """How many scans the message says that the device holds of the sixteen."""
    named = re.search(r"error: out of memory: .* 16 scans .* at once, but (\d+): micro_batch_size=\1 ", error)
    assert named, error
    return int(named[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="of Linux: /proc, and a limit that the allocator keeps to")
def test_a_process_with_a_limit(tmp_path):
    def train(*more):
        # A transformer: under a limit oneDNN's convolutions crash, without a word.
        encoder = ["encoder=vit_tiny", "encoder.patch_size=[5,6,6]", "encoder.width=96", "encoder.n_layers=6"]
        of = arguments(tmp_path, "4mm", "strategy=cpu", *encoder, *more)
        command = [sys.executable, "-c", LIMITED, "450", *of]
        # (glibc would keep the address space of freed tensors, to which the limit applies.)
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    scans_of_noise(tmp_path, "4mm")
    told = train()
    assert told.returncode == 1 and "Traceback" not in told.stderr, told.stderr
    done = train(f"micro_batch_size={fits(told.stderr)}")
    assert done.returncode == 0, done.stderr
    assert "finished: " in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="fills a GPU's memory")
def test_a_gpu(tmp_path, command, capsys):
    scans_of_noise(tmp_path, "2mm")
    of = arguments(tmp_path, "2mm", "strategy=gpu", "trainer.precision=32-true")
    of += ["encoder.norm=group", "encoder.stem_stride=1"]
    free, total = torch.cuda.mem_get_info()
    # What is left: the margin that trials keep free, and 3 GB for sixteen scans, which need about 17.
    ballast = torch.empty(free - total // 20 - 3 * 10**9, dtype=torch.uint8, device="cuda")
    with pytest.raises(SystemExit):
        command("train", *of)
    most = fits(capsys.readouterr().err)
    command("train", *of, "micro_batch_size=auto")
    assert f"micro_batch_size=auto: {most} scans at once, of 16 a step" in capsys.readouterr().out
    assert len(ballast)
