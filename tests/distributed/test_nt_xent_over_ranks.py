"""Contrastive losses under real DDP on gloo processes: loss and gradients of one process with the whole batch."""

import functools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from neuro_ssl.distributed import weighted_for_ddp
from neuro_ssl.losses import nt_xent, y_aware
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


def age(n):
    return torch.linspace(20, 30, n, dtype=torch.float64)[:, None]


class NoWaiting(TorchDispatchMode):
    """Refuses that a number is read from a tensor, for which the host would wait for the device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket.__name__ != "_local_scalar_dense"
        return function(*args, **(kwargs or {}))


def train_step(world, case, dtype, form="asking"):
    """One step of DDP on this rank's share: the loss that it reports, and the averaged gradients.

    Forms: asking the other ranks for their number of pairs; knowing it, without ever waiting; the y-aware loss; naive,
    by the paper's gather.
    """
    counts, subject = BATCHES[world][case]
    rank = dist.get_rank()
    mine = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    model = DistributedDataParallel(network(DTYPES[dtype]))
    z1, z2 = model(views(len(subject), DTYPES[dtype])[:, mine].flatten(0, 1)).chunk(2)
    subjects = torch.tensor(subject)[mine]
    if form == "naive":
        loss = oracle(gather_without_gradients(z1, counts), gather_without_gradients(z2, counts), subject)
        loss.backward()
    elif form == "asking":
        loss, _ = nt_xent(z1, z2, subjects, TEMPERATURE)
        weighted_for_ddp(loss, counts[rank]).backward()
    else:
        with NoWaiting():
            if form == "knowing":
                loss, _ = nt_xent(z1, z2, subjects, TEMPERATURE, shares=counts)
            else:
                loss, _ = y_aware(z1, z2, subjects, age(len(subject))[mine], (5.0,), TEMPERATURE, shares=counts)
            weighted_for_ddp(loss, counts[rank], counts).backward()
    return loss.item(), [p.grad for p in model.module.parameters()]


def all_steps(world):
    steps = {case[1:]: train_step(*case) for case in CASES if case[0] == world}
    return steps | {form: train_step(world, 0, "64", form) for form in ("naive", "knowing", "y_aware")}


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


def y_aware_on_one_process(z1, z2, subject):
    return y_aware(z1, z2, torch.tensor(subject), age(len(subject)), (5.0,), TEMPERATURE)[0]


@pytest.mark.parametrize(("form", "reference"), [("knowing", oracle), ("y_aware", y_aware_on_one_process)])
@pytest.mark.parametrize("world", BATCHES)
def test_no_step_waits_for_what_is_known(world, form, reference):
    """The ranks know each other's number of pairs from the sampler."""
    _, gradients = whole_batch(world, 0, "64", reference)
    for _, averaged in (rank[form] for rank in ranks(world)):
        torch.testing.assert_close(averaged, gradients, atol=1e-12, rtol=1e-12)


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
