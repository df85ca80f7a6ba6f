"""NT-Xent under real DDP on gloo processes: loss and gradients are those of one process with the whole batch."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from neuro_ssl.distributed import weighted_for_ddp
from neuro_ssl.losses import nt_xent
from tests.distributed.processes import on_processes

TEMPERATURE = 0.2
# Pairs on each rank, and the subjects of all pairs: some have several scans, on one rank and on different ones.
BATCHES = {
    2: [([3, 3], [0, 1, 2, 3, 4, 5]), ([3, 2], [0, 1, 1, 2, 0]), ([1, 1], [0, 1])],
    4: [([2, 2, 2, 2], [0, 1, 2, 0, 3, 4, 5, 0]), ([3, 2, 2, 2], [0, 1, 1, 2, 3, 4, 0, 5, 6])],
}
CASES = [(world, i, dtype) for world, batches in BATCHES.items() for i in range(len(batches)) for dtype in ("32", "64")]
DTYPES = {"32": torch.float32, "64": torch.float64}
TOLERANCE = {"32": 1e-5, "64": 1e-12}


def network(dtype):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5, bias=False)).to(dtype)


def views(n, dtype):
    return torch.randn(2, n, 7, generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(dtype)


def oracle(z1, z2, subject):
    """The loss of the whole batch, by plain exponentials: for each anchor, partner over partner and other subjects."""
    z = nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    n = len(z1)
    exponential = torch.exp(z @ z.T / TEMPERATURE)
    terms = []
    for i in range(2 * n):
        partner = exponential[i, (i + n) % (2 * n)]
        negatives = sum(exponential[i, k] for k in range(2 * n) if subject[k % n] != subject[i % n])
        terms.append(-torch.log(partner / (partner + negatives)))
    return sum(terms) / (2 * n)


def gather_without_gradients(rows, counts):
    """The paper's gather: the other ranks' rows are constants, and their use of ours sends nothing back."""
    padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), rows.shape[1])]).detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    parts = [part[:n] for part, n in zip(parts, counts, strict=True)]
    parts[dist.get_rank()] = rows
    return torch.cat(parts)


def train_step(world, case, dtype, naive=False):
    """One step of DDP on this rank's share: the loss that it reports, and the averaged gradients."""
    counts, subject = BATCHES[world][case]
    rank = dist.get_rank()
    mine = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    model = DistributedDataParallel(network(DTYPES[dtype]))
    z1, z2 = model(views(len(subject), DTYPES[dtype])[:, mine].flatten(0, 1)).chunk(2)
    if naive:
        loss = oracle(gather_without_gradients(z1, counts), gather_without_gradients(z2, counts), subject)
        loss.backward()
    else:
        loss, _ = nt_xent(z1, z2, torch.tensor(subject)[mine], TEMPERATURE)
        weighted_for_ddp(loss, counts[rank]).backward()
    return loss.item(), [p.grad for p in model.module.parameters()]


def all_steps(world):
    steps = {case[1:]: train_step(*case) for case in CASES if case[0] == world}
    return steps | {"naive": train_step(world, 0, "64", naive=True)}


@functools.cache
def ranks(world):
    return on_processes(world, all_steps, world)


def whole_batch(world, case, dtype, loss=oracle):
    subject = BATCHES[world][case][1]
    model = network(DTYPES[dtype])
    value = loss(*model(views(len(subject), DTYPES[dtype])), subject)
    value.backward()
    return value.item(), [p.grad for p in model.parameters()]


def one_process(z1, z2, subject):
    return nt_xent(z1, z2, torch.tensor(subject), TEMPERATURE)[0]


@pytest.mark.parametrize(("world", "case", "dtype"), CASES)
def test_loss_and_gradients_equal_one_process(world, case, dtype):
    close = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    for reference in (oracle, one_process):
        loss, gradients = whole_batch(world, case, dtype, reference)
        results = [rank[case, dtype] for rank in ranks(world)]
        counts = BATCHES[world][case][0]
        mean = sum(n * value for n, (value, _) in zip(counts, results, strict=True)) / sum(counts)
        assert mean == pytest.approx(loss, abs=close["atol"])
        for _, averaged in results:
            torch.testing.assert_close(averaged, gradients, **close)


@pytest.mark.parametrize("world", BATCHES)
def test_a_gather_that_drops_the_others_gradients_shrinks_them(world):
    loss, gradients = whole_batch(world, 0, "64")
    for value, averaged in (rank["naive"] for rank in ranks(world)):
        assert value == pytest.approx(loss)  # the loss looks right
        torch.testing.assert_close([world * g for g in averaged], gradients)
        with pytest.raises(AssertionError):
            torch.testing.assert_close(averaged, gradients, atol=1e-2, rtol=1e-2)


def test_masking_reaches_over_ranks():
    """The subjects matter: without them, the loss of the batch with repeated subjects is another."""
    counts, subject = BATCHES[4][1]
    z1, z2 = network(torch.float64)(views(len(subject), torch.float64))
    assert abs(oracle(z1, z2, subject) - oracle(z1, z2, range(sum(counts)))) > 1e-2
