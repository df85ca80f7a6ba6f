import numpy as np
import torch
from scipy.stats import kstest

from neuro_ssl.views.random import happens, normal_pair, uniform, view_keys


def keys(n, *, seed=0, epoch=0, view=0):
    return view_keys(seed, torch.full((n,), epoch), torch.arange(n), view)


def test_numbers_have_their_distributions():
    k = keys(2000)
    assert kstest(uniform(k, "a", 10).flatten().numpy(), "uniform").pvalue > 1e-3
    pair = normal_pair(k, "a", 10)
    for numbers in pair:
        assert kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(pair[0].flatten(), pair[1].flatten())[0, 1]) < 0.03
    assert abs(happens(k, "a", 0.3).float().mean() - 0.3) < 0.04


def test_streams_samples_epochs_and_views_are_independent():
    draws = [
        uniform(keys(1000), "a", 2),
        uniform(keys(1000), "b", 2),
        uniform(keys(1000, epoch=1), "a", 2),
        uniform(keys(1000, view=1), "a", 2),
        uniform(keys(1000, seed=1), "a", 2),
    ]
    correlation = np.corrcoef(torch.cat(draws, dim=1).T.numpy())
    assert np.abs(correlation - np.eye(10)).max() < 0.12
    one_sample_next_to_another = np.corrcoef(draws[0][:-1, 0], draws[0][1:, 0])[0, 1]
    assert abs(one_sample_next_to_another) < 0.12


def test_a_sample_is_the_same_alone_and_in_a_batch():
    k = keys(5)
    assert torch.equal(uniform(k[3:4], "a", 7), uniform(k, "a", 7)[3:4])


def test_keys_do_not_collide():
    n = 20_000
    many = torch.cat([keys(n, epoch=e, view=v) for e in range(3) for v in range(2)])
    assert len(torch.unique(many, dim=0)) == 6 * n


def test_single_numbers_of_a_stream_equal_those_of_the_whole():
    k, places = keys(3), torch.tensor([7, 0, 19])
    assert torch.equal(uniform(k, "a", 3, counter=places), uniform(k, "a", 4, 5).flatten(1)[:, places])
    for part, whole in zip(normal_pair(k, "a", 3, counter=places), normal_pair(k, "a", 20), strict=True):
        torch.testing.assert_close(part, whole[:, places], atol=1e-6, rtol=1e-6)
    assert uniform(k, "a", 0, counter=places[:0]).shape == (3, 0)
