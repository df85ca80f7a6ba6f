import torch

from neuro_ssl.benchmarking.loss import measure_loss
from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.benchmarking.step import measure_step

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


def test_measured_losses():
    rows = measure_loss(CPU, [(32, 16)])
    assert [row["name"] for row in rows] == ["block", "broadcast"]
    assert all(row["seconds"] > 0 for row in rows)
    assert rows[0]["bytes"] < rows[1]["bytes"]


def test_measured_steps():
    rows = measure_step(CPU, (24, 24, 24), pairs=[8], micro_batch_size=1, width=8, stem_strides=[2], repeats=1)
    sizes = [(row["name"], row["micro_batch_size"], row["pairs"]) for row in rows]
    assert sizes == [("direct", 8, 8), ("cached", 1, 8)]
    assert rows[1]["bytes"] < 0.8 * rows[0]["bytes"] and rows[0]["ratio"] == 1
