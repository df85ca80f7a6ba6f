import pytest

from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.samplers import Sampling
from neuro_ssl.data.supervised import SupervisedDataModule
from neuro_ssl.data.targets import Target
from neuro_ssl.errors import InputError


def test_a_data_module_draws_as_it_is_told(random_scans):
    order = SSLDataModule(random_scans, 2, sampling=Sampling("one")).train_dataloader().sampler
    assert sum(map(len, order)) == 5  # of 7 scans
    sex, age = Target(name="sex", target="sex", classes=("F", "M")), Target(name="age", target="age_years")
    balanced = SupervisedDataModule(random_scans, [sex], 2, sampling=Sampling(balance="class"))
    draws = [draw.row for _ in range(2) for batch in balanced.train_dataloader().sampler for draw in batch]
    target = balanced.datasets["train"].target
    assert len(draws) == 14 and 6 <= sum(float(target[row]) for row in draws) <= 8
    for datamodule, message in [
        (SSLDataModule(random_scans, 2, sampling=Sampling(balance="cohort")), "are of one cohort"),
        (SSLDataModule(random_scans, 2, sampling=Sampling(balance="class")), "there are no classes"),
        (SupervisedDataModule(random_scans, [age], 2, sampling=Sampling(balance="class")), "no classes"),
        (SupervisedDataModule(random_scans, [sex, age], 2, sampling=Sampling(balance="class")), "for one target"),
    ]:
        with pytest.raises(InputError, match=message):
            datamodule.check_shares(1)
    with pytest.raises(InputError, match="sampling.exponent must be from 0 to 1, got -1"):
        Sampling(exponent=-1)
