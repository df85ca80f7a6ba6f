"""A signal that one of two processes gets stops both after the same step, and the same command goes on."""

import signal

import pytest

from tests.distributed.commands import LAUNCHERS, Running, arguments, last_checkpoint, steps_of


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(("signalled", "signum"), [(1, signal.SIGUSR1), (0, signal.SIGTERM), (1, signal.SIGINT)])
def test_one_process_alone_gets_the_signal(launcher, signalled, signum, random_scans, tmp_path, command):
    many = arguments(random_scans, tmp_path / "runs", "trainer.max_epochs=400", "checkpoint_minutes=0.002")
    running = Running(launcher, tmp_path, many)
    running.wait_for(lambda: last_checkpoint(tmp_path / "runs") is not None)
    running.ranks()[signalled].send_signal(signum)
    seconds = running.end()
    print(f"{launcher}, {signal.Signals(signum).name} to rank {signalled}: all gone after {seconds:.1f} s")
    assert running.process.returncode == (1 if launcher == "torchrun" else 128 + signum), running.text
    (step,) = steps_of(running.text)
    assert f"stopped by {signal.Signals(signum).name} after step {step} with its state saved" in running.text
    assert last_checkpoint(tmp_path / "runs")["global_step"] == step
    assert "error:" not in running.text
