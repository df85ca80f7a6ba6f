"""What y-aware pretraining's batches carry, and what a data module refuses."""

import dataclasses
import math

import pytest
import torch

from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.samplers import BatchSampler
from neuro_ssl.errors import InputError


@pytest.fixture
def with_gaps(random_scans):
    """The store, whose second training scan has lost its age and its sex, and with a column of nothing."""
    manifest = random_scans.manifest.copy()
    manifest.loc[manifest.index[1], ["age_years", "sex"]] = None
    manifest["empty"] = math.nan
    return dataclasses.replace(random_scans, manifest=manifest)


def test_batches_carry_numbers_and_codes(with_gaps):
    datamodule = SSLDataModule(with_gaps, 3, covariates={"age_years": 5.0, "sex": 0.0})
    assert str(datamodule).endswith("; with age_years of 6 train, sex of 6 train")
    rows = with_gaps.manifest.loc[with_gaps.manifest["split"] == "train"]
    found = {}
    for batch in datamodule.train_dataloader():
        for scan, covariates in zip(batch["scan"].tolist(), batch["covariates"], strict=True):
            found[scan] = covariates
    assert sorted(found) == list(rows.index)
    for scan, row in rows.iterrows():
        sex = {"F": 0.0, "M": 1.0}.get(row["sex"], math.nan)
        torch.testing.assert_close(found[scan], torch.tensor([row["age_years"], sex]).float(), equal_nan=True)
    assert "covariates" not in next(iter(SSLDataModule(with_gaps, 3).train_dataloader()))


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        ({"shoe_size": 1.0}, "no column 'shoe_size' for task.covariates; there are subject_id"),
        ({"age_years": 5.0, "sex": 1.0}, "column 'sex' holds words such as 'F': set its bandwidth"),
        ({"empty": 1.0}, "no scan of split=train has a value in column 'empty'"),
        ({"empty": 0.0}, "no scan of split=train has a value in column 'empty'"),
    ],
)
def test_refuses(with_gaps, covariates, message):
    with pytest.raises(InputError, match=message):
        SSLDataModule(with_gaps, 3, covariates=covariates)


def test_batches_say_how_many_scans_every_process_has(random_scans):
    datamodule = SSLDataModule(random_scans, 4, num_workers=1)
    assert [list(batch["shares"]) for batch in datamodule.train_dataloader()] == [[4], [3]]
    for world_size in (1, 2, 3):
        ranks = [list(BatchSampler(7, 4, rank=rank, world_size=world_size)) for rank in range(world_size)]
        for shares in zip(*ranks, strict=True):
            assert {share.counts for share in shares} == {tuple(map(len, shares))}


def test_volumes_stay_on_the_host_when_told(random_scans):
    for on_host in (False, True):
        datamodule = SSLDataModule(random_scans, 4, covariates={"age_years": 5.0}, volumes_on_host=on_host)
        batch = next(iter(datamodule.train_dataloader()))
        moved = datamodule.transfer_batch_to_device(batch, torch.device("meta"), 0)
        assert moved.keys() == batch.keys()
        devices = {key: value.device.type for key, value in moved.items() if key != "shares"}
        assert devices.pop("volume") == ("cpu" if on_host else "meta")
        assert set(devices.values()) == {"meta"}
