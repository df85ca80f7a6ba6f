import torch

from neuro_ssl.benchmarking.loss import loss
from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.benchmarking.step import step
from neuro_ssl.benchmarking.table import ratios
from neuro_ssl.encoders.resnet3d import ResNet3D

CPU = torch.device("cpu")


def test_peak_bytes_counts_what_is_held_at_one_time():
    before = torch.zeros(10_000)

    def work():
        first = torch.zeros(100_000)
        second = torch.zeros(200_000)
        del first
        third = torch.zeros(50_000)
        return second, third, before

    assert peak_bytes(work, CPU) == 4 * 300_000


def test_losses_of_both_sides():
    ours, theirs = loss("cpu", 0, [(32, 16)])
    assert (ours.side, theirs.side, ours.what) == ("neuro_ssl", "reference", "32 pairs × 16")
    assert 0 < ours.peak_mb < theirs.peak_mb


def test_steps_direct_and_gradient_cached():
    settings = {"pairs": 4, "micro_batch_size": 1, "repetitions": 2, "autocast": False}
    direct, cached = step({"small": lambda: ResNet3D(width=8)}, (32, 32, 32), "cpu", **settings)
    assert (direct.what, cached.what) == ("small, 4 pairs, direct", "small, 4 pairs, gradient-cached by 1")
    assert 0 < cached.peak_mb < direct.peak_mb and direct.repetitions == 2
    (line,) = ratios([direct, cached])
    assert line.startswith("step, small, 4 pairs, gradient-cached: ")
