"""Positives by subject, y-aware weights, and blocks, against plain loops in float64; memory against its bounds."""

import math

import pytest
import torch

from neuro_ssl.benchmarking.loss import by_broadcasting, in_blocks
from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.losses import nt_xent, y_aware

CPU = torch.device("cpu")
NAN = math.nan


def projections(n, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]


def plain_loop(z1, z2, subject, temperature, positives, similarity):
    """Mean over all views of Σ weight × −log(softmax), one key at a time; `similarity` of two scans by their number."""
    n = len(z1)
    z = [row / row.norm() for row in (*z1, *z2)]
    scan = [*range(n), *range(n)]
    total = 0
    for a in range(2 * n):
        weights, exponentials = {}, {}
        for k in range(2 * n):
            same_scan, same_subject = scan[k] == scan[a], subject[scan[k]] == subject[scan[a]]
            if k == a or (positives == "augmentation" and same_subject and not same_scan):
                continue
            exponentials[k] = torch.exp(z[a] @ z[k] / temperature)
            weights[k] = 1.0 if same_subject else similarity(scan[a], scan[k])
        for k, weight in weights.items():
            total = total - weight / sum(weights.values()) * torch.log(exponentials[k] / sum(exponentials.values()))
    return total / (2 * n)


def check(found, expected, inputs):
    """Values and gradients."""
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), atol=1e-12, rtol=1e-12
    )


SUBJECT = [0, 1, 1, 2, 0, 3, 0]
AGE = [30.0, 31.0, 35.0, NAN, 72.0, 30.0, 33.0]
SEX = [0.0, 1.0, 1.0, 0.0, 0.0, NAN, 0.0]


@pytest.mark.parametrize("positives", ["augmentation", "subject"])
def test_scans_of_a_subject_are_left_out_or_positives(positives):
    z1, z2 = projections(7)
    loss, _ = nt_xent(z1, z2, torch.tensor(SUBJECT), 0.3, positives)
    check(loss, plain_loop(z1, z2, SUBJECT, 0.3, positives, lambda a, k: 0.0), [z1, z2])
    assert abs(loss - nt_xent(z1, z2, torch.arange(7), 0.3)[0]) > 1e-3


def similar(a, k):
    """Of age with 5 years, and of equal sex; 0 where one is unknown."""
    if any(math.isnan(value) for value in (AGE[a], AGE[k], SEX[a], SEX[k])):
        return 0.0
    return math.exp(-((AGE[a] - AGE[k]) ** 2) / (2 * 5**2)) * (SEX[a] == SEX[k])


@pytest.mark.parametrize("positives", ["augmentation", "subject"])
def test_y_aware_weights(positives):
    z1, z2 = projections(7)
    covariates = torch.tensor([AGE, SEX], dtype=torch.float64).T
    loss, _ = y_aware(z1, z2, torch.tensor(SUBJECT), covariates, (5.0, 0.0), 0.3, positives)
    check(loss, plain_loop(z1, z2, SUBJECT, 0.3, positives, similar), [z1, z2])


def test_y_aware_is_nt_xent_in_the_limit_of_no_bandwidth():
    z1, z2 = projections(7)
    subject, age = torch.tensor(SUBJECT), torch.tensor([[20.0], [21], [22], [23], [24], [25], [26]])
    expected = nt_xent(z1, z2, subject, 0.3)[0]
    distances = [abs(y_aware(z1, z2, subject, age, (s,), 0.3)[0] - expected).item() for s in (1.0, 0.3, 0.2, 0.05, 0)]
    assert distances[0] > 1e-2 and distances[0] > distances[1] > distances[2] > 0
    assert distances[3] < 1e-12 and distances[4] < 1e-12
    unknown = y_aware(z1, z2, subject, torch.full((7, 1), NAN), (5.0,), 0.3)[0]
    torch.testing.assert_close(unknown, expected, atol=1e-12, rtol=0)


def test_y_aware_is_the_papers_for_one_scan_a_subject():
    """Their matrix form: both views of all scans, an RBF kernel without its diagonal, rows normalised, log-softmax."""
    from scipy.special import log_softmax
    from sklearn.metrics.pairwise import rbf_kernel

    z1, z2 = projections(6)
    age = torch.tensor([[20.0], [24], [25], [50], [52], [80]])
    z = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1).detach().numpy()
    logits = z @ z.T / 0.1
    logits[range(12), range(12)] = -1e8
    weights = rbf_kernel(torch.cat([age, age]).numpy(), gamma=1 / (2 * 5**2))
    weights[range(12), range(12)] = 0
    expected = -(weights / weights.sum(axis=1, keepdims=True) * log_softmax(logits, axis=1)).sum() / 12
    assert y_aware(z1, z2, torch.arange(6), age, (5.0,), 0.1)[0].item() == pytest.approx(expected, abs=1e-6)


def test_many_blocks_are_one():
    """300 anchors, against the whole matrix."""
    z1, z2 = projections(150)
    loss, accuracy = nt_xent(z1, z2, torch.arange(150), 0.1)
    check(loss, by_broadcasting(z1, z2), [z1, z2])
    z = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    nearest = (z @ z.T - 2 * torch.eye(300)).argmax(dim=1)
    assert accuracy.item() == pytest.approx((nearest % 150 == torch.arange(300) % 150).double().mean().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_reach_the_logits(dtype):
    z1, z2 = (z.detach().to(dtype).requires_grad_() for z in projections(8, width=64))
    expected = by_broadcasting(z1.detach().double(), z2.detach().double())
    with torch.autocast("cpu", torch.bfloat16):
        loss = in_blocks(z1, z2)
    loss.backward()
    assert (loss.dtype, z1.grad.dtype) == (torch.float32, dtype)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def held(loss, pairs, width):
    z1, z2 = (torch.randn(pairs, width).requires_grad_() for _ in range(2))
    return peak_bytes(lambda: loss(z1, z2).backward(), CPU)


def test_memory_of_large_batches():
    assert held(in_blocks, 4096, 128) < 1.5e9 / 20  # the bound is 1.5 GB
    ours = held(in_blocks, 1024, 64)
    one_tensor = 4 * (2 * 1024) ** 2 * 64  # of the broadcast form, which holds several
    assert ours < one_tensor / 20
    assert held(by_broadcasting, 64, 64) > 4 * (2 * 64) ** 2 * 64


@pytest.mark.slow
def test_memory_against_the_broadcast_form():
    assert held(in_blocks, 1024, 64) < held(by_broadcasting, 1024, 64) / 20
