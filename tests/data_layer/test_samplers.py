import pytest

from neuro_ssl.data.samplers import BatchSampler
from neuro_ssl.errors import InputError


def epoch(n, batch_size, number=0, **kwargs):
    sampler = BatchSampler(n, batch_size, seed=3, **kwargs)
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 7), (3, 8), (100, 32), (33, 32)])
def test_every_scan_once_in_batches_of_nearly_equal_size(n, batch_size):
    batches = epoch(n, batch_size, shuffle=True)
    assert sorted(draw.row for batch in batches for draw in batch) == list(range(n))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_the_same_global_batches(world_size):
    whole = epoch(23, 8, 5, shuffle=True)
    parts = [epoch(23, 8, 5, shuffle=True, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        assert [draw for part in parts for draw in part[step]] == batch


def test_a_new_order_each_epoch_that_seed_and_epoch_determine():
    first, again, second = (epoch(50, 8, number, shuffle=True) for number in (0, 0, 1))
    assert first == again
    assert [d.row for b in first for d in b] != [d.row for b in second for d in b]
    assert {d.epoch for b in second for d in b} == {1}
    assert [d.position for b in second for d in b] == list(range(50))


def test_refuses_batches_smaller_than_the_number_of_processes():
    with pytest.raises(InputError, match="3 scans in batches of 2 cannot be shared out over 2"):
        BatchSampler(3, 2, world_size=2)
