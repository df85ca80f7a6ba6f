import math

import pytest
import torch

from neuro_ssl.losses import nt_xent


def algorithm_1(z1, z2, temperature, subject=None):
    """Chen et al. 2020, Algorithm 1, as printed: interleaved views, one pair at a time, plain float64 arithmetic."""
    n = len(z1)
    z = [row for pair in zip(z1.double().tolist(), z2.double().tolist(), strict=True) for row in pair]
    who = [s for s in (subject if subject is not None else range(n)) for _ in range(2)]

    def similarity(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))

    def loss(i, j):
        others = [k for k in range(2 * n) if k == j or (k != i and who[k] != who[i])]
        denominator = sum(math.exp(similarity(z[i], z[k]) / temperature) for k in others)
        return -math.log(math.exp(similarity(z[i], z[j]) / temperature) / denominator)

    return sum(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in range(n)) / (2 * n)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("n", [2, 7])
def test_equals_algorithm_1(n, temperature):
    generator = torch.Generator().manual_seed(n)
    z1, z2 = torch.randn(2, n, 5, generator=generator, dtype=torch.float64) * 3
    loss, _ = nt_xent(z1, z2, torch.arange(n), temperature)
    assert loss.item() == pytest.approx(algorithm_1(z1, z2, temperature), abs=1e-6)


def test_other_scans_of_a_subject_are_no_negatives():
    generator = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 6, 4, generator=generator)
    subject = [0, 0, 1, 2, 1, 3]
    loss, _ = nt_xent(z1, z2, torch.tensor(subject), 0.5)
    assert loss.item() == pytest.approx(algorithm_1(z1, z2, 0.5, subject), abs=1e-6)
    assert loss.item() != pytest.approx(algorithm_1(z1, z2, 0.5), abs=1e-3)


def test_half_precision_is_computed_in_float32():
    z1, z2 = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    loss, _ = nt_xent(z1, z2, torch.arange(4), 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(algorithm_1(z1, z2, 0.1), abs=1e-5)


def test_accuracy_counts_partners_that_are_most_similar():
    z1 = torch.eye(4)
    assert nt_xent(z1, z1 + 0.1, torch.arange(4), 0.5)[1] == 1
    assert nt_xent(z1, z1.roll(1, 0), torch.arange(4), 0.5)[1] == 0
