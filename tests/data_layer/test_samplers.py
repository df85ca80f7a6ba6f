from collections import Counter

import numpy as np
import pytest

from neuro_ssl.data.samplers import BatchSampler, EpochOrder, Sampling
from neuro_ssl.errors import InputError


def epoch(n, batch_size, number=0, **kwargs):
    order = EpochOrder(np.arange(n), None, Sampling(), seed=3)
    sampler = BatchSampler(n, batch_size, order=order, **kwargs)
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 7), (3, 8), (100, 32), (33, 32)])
def test_every_scan_once_in_batches_of_nearly_equal_size(n, batch_size):
    batches = epoch(n, batch_size)
    assert sorted(draw.row for batch in batches for draw in batch) == list(range(n))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_the_same_global_batches(world_size):
    whole = epoch(23, 8, 5)
    parts = [epoch(23, 8, 5, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        assert [draw for part in parts for draw in part[step]] == batch


def test_a_new_order_each_epoch_that_seed_and_epoch_determine():
    first, again, second = (epoch(50, 8, number) for number in (0, 0, 1))
    assert first == again
    assert [d.row for b in first for d in b] != [d.row for b in second for d in b]
    assert {d.epoch for b in second for d in b} == {1}
    assert [d.position for b in second for d in b] == list(range(50))
    assert [d.row for b in second for d in b] == np.random.default_rng([3, 1]).permutation(50).tolist()


def test_refuses_batches_smaller_than_the_number_of_processes():
    with pytest.raises(InputError, match="3 scans in batches of 2 cannot be shared out over 2"):
        BatchSampler(3, 2, world_size=2)


SUBJECT = np.array([0, 0, 0, 1, 1, 2, 3, 4, 4, 5] * 3) + np.repeat([0, 10, 20], 10)  # 18 subjects, 30 scans


def test_one_session_a_subject_and_another_each_epoch():
    order = EpochOrder(SUBJECT, None, Sampling("one"), seed=0)
    epochs = [order(number) for number in range(300)]
    assert len(order) == 18 and all(sorted(SUBJECT[rows]) == sorted(set(SUBJECT)) for rows in epochs)
    counts = Counter(row for rows in epochs for row in rows)
    for row, subject in enumerate(SUBJECT):
        p = 1 / (subject == SUBJECT).sum()
        assert abs(counts[row] - 300 * p) <= 4 * np.sqrt(300 * p * (1 - p))  # 4 standard deviations


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_groups_get_their_shares(exponent):
    sizes = np.array([900, 90, 10])
    group = np.repeat([0, 1, 2], sizes)
    order = EpochOrder(np.arange(1000), group, Sampling(balance="cohort", exponent=exponent), seed=0)
    share = 1000 * sizes**exponent / (sizes**exponent).sum()
    drawn = []
    for number in range(40):
        rows = order(number)
        counts = np.bincount(group[rows], minlength=3)
        assert counts.sum() == len(order) == 1000 and (abs(counts - share) < 1).all()
        times = np.bincount(rows, minlength=1000)
        for name in range(3):  # nobody is repeated before all others were drawn
            assert np.ptp(times[group == name]) <= 1
        drawn.append(counts)
    assert (abs(np.mean(drawn, axis=0) - share) < 0.35).all()
    if exponent == 1:
        assert sorted(rows) == list(range(1000))
    else:  # which part of a large cohort is seen changes
        assert len(set(order(0)) ^ set(order(1))) > 100


def test_a_group_with_less_than_one_draw_is_seen_now_and_then():
    group = np.repeat([0, 1, 2], [1, 1, 8])
    order = EpochOrder(np.arange(10) // 5, group, Sampling("one", "cohort", 1.0), seed=0)  # 2 draws an epoch
    counts = np.bincount(np.concatenate([group[order(number)] for number in range(500)]))
    assert (counts > 50).all() and counts.sum() == 1000


def test_both_together_draw_subjects():
    group = (SUBJECT >= 20).astype(int)
    order = EpochOrder(SUBJECT, group, Sampling("one", "cohort"), seed=0)
    for number in range(5):
        rows = order(number)
        assert Counter(group[rows]) == {0: 9, 1: 9}
        assert len(set(SUBJECT[rows][group[rows] == 0])) == 9  # of 12
        assert set(Counter(SUBJECT[rows][group[rows] == 1]).values()) == {1, 2}  # of 6


def test_ranks_and_restarts_draw_the_same():
    group = (SUBJECT >= 20).astype(int)
    order = EpochOrder(SUBJECT, group, Sampling("one", "cohort", 0.5), seed=4)

    def drawn(**kwargs):
        sampler = BatchSampler(len(order), 4, order=EpochOrder(SUBJECT, group, order.sampling, seed=4), **kwargs)
        sampler.set_epoch(3)
        return list(sampler)

    whole = drawn()
    assert [draw.row for batch in whole for draw in batch] == order(3).tolist()
    parts = [drawn(rank=rank, world_size=2) for rank in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole
    assert drawn(start=(3, 2)) == whole[2:]
