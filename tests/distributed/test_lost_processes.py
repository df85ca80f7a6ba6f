"""kill -9 of one of two processes: all are gone within a minute, a line says why, and the same command goes on."""

import re
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.distributed.commands import LAUNCHERS, Running, arguments, last_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("killed", [1, 0])
def test_the_others_end_and_the_next_start_goes_on(launcher, killed, random_scans, tmp_path):
    many = arguments(random_scans, tmp_path / "runs", "trainer.max_epochs=60", "checkpoint_minutes=0.002")
    running = Running(launcher, tmp_path, many)
    running.wait_for(lambda: last_checkpoint(tmp_path / "runs") is not None)
    running.ranks()[killed].send_signal(signal.SIGKILL)
    seconds = running.end()
    print(f"{launcher}, kill -9 of rank {killed}: all gone after {seconds:.1f} s; {running.process.returncode}")
    print(running.text)
    lines = re.findall(
        r"error(?: in process \d+)?: [^\r\n]*", running.text
    )  # perhaps behind the progress bar of the killed one
    assert lines
    assert all("goes on from the last checkpoint" in line for line in lines)
    if launcher == "lightning" and killed:
        assert "rank 1 of this run was ended by SIGKILL" in lines[0]
    assert running.process.returncode
    again = Running(launcher, tmp_path, many)
    again.process.wait(200)
    assert again.process.returncode == 0, again.text
    assert "going on from its last checkpoint" in again.text
    whole = Running(launcher, tmp_path, arguments(random_scans, tmp_path / "whole", "trainer.max_epochs=60"))
    assert whole.process.wait(200) == 0, whole.text
    resumed, expected = (last_checkpoint(tmp_path / folder)["state_dict"] for folder in ("runs", "whole"))
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_scan_that_one_process_alone_cannot_read(launcher, random_scans, tmp_path):
    """It ends with what is wrong, and the other, which waits for it, with it."""
    data = tmp_path / "data"
    shutil.copytree(random_scans.path.parents[2] / "stores", data / "stores")
    many = arguments(random_scans, tmp_path / "runs", "trainer.max_epochs=400", "checkpoint_minutes=0.002")
    many = [f"data_dir={data}" if argument.startswith("data_dir=") else argument for argument in many]
    running = Running(launcher, tmp_path, many)
    running.wait_for(lambda: last_checkpoint(tmp_path / "runs") is not None)
    running.ranks()
    volume = random_scans.manifest["volume"][random_scans.manifest["split"] == "train"].iloc[0]
    (file,) = data.rglob(Path(volume).name)
    file.unlink()
    seconds = running.end()
    print(f"{launcher}, an error in one process: all gone after {seconds:.1f} s")
    assert f"{file}: cannot be read (No such file or directory)" in running.text
    assert running.process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_full_disk_ends_all(launcher, random_scans, tmp_path):
    """The first process alone writes; the other hears of it."""
    many = arguments(random_scans, tmp_path / "runs", "trainer.max_epochs=400", "checkpoint_minutes=0.002")
    running = Running(launcher, tmp_path, many)
    running.wait_for(lambda: list(tmp_path.glob("runs/*/checkpoints/previous.ckpt")))
    resource.prlimit(running.ranks()[0].pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    seconds = running.end()
    print(f"{launcher}, a full disk: all gone after {seconds:.1f} s")
    assert "last.ckpt: File too large; make room" in running.text, running.text
    assert running.process.returncode
    (run,) = (tmp_path / "runs").glob("simclr_pretrain-*")
    steps = [torch.load(run / "checkpoints" / f"{name}.ckpt")["global_step"] for name in ("previous", "last")]
    assert 0 < steps[0] < steps[1]
