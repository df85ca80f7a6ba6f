"""kill -9 of one of two processes: all are gone within a minute, a line says why, and the same command goes on."""

import re
import signal

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
