import os
import pickle

import numpy as np
import pandas as pd
import pytest
import yaml

from neuro_ssl.data.combined import CombinedDataset
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.leakage import check_leakage
from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.protocols import StoredSplit, TrainOnTest
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from tests.conftest import IXI

GRID = Grid.named("16mm")
SPLITS = ["train", "train", "val", "test"]


def volume(seed):
    return np.random.default_rng(seed).random(GRID.shape).astype(np.float16) + np.float16(0.01)


def preprocessed(folder, name, first_seed, simulated=False, **columns):
    """A store of four subjects, whose ids are the same in every cohort."""
    paths = [folder / f"{name}{i}.nii" for i in range(4)]
    for path in paths:
        path.write_text(path.name)
    table = {"subject_id": [f"{name}/sub-{i}" for i in range(4)], "image_path": map(str, paths), "split": SPLITS}
    scans = add_scan_ids(validate(pd.DataFrame({**table, **columns}), name))
    settings = {"version": 1, "bias_correction": columns.get("bias", [True])[0]}
    writer = StoreWriter(folder / "stores" / name, GRID, settings)
    for i, row in enumerate(scans.itertuples()):
        writer.write(row.scan_id, volume(first_seed + i), {"brain_ml": 1000.0}, np.eye(4), [row.image_path])
    return writer.finish(scans, name, simulated)


@pytest.fixture
def stores(tmp_path):
    preprocessed(tmp_path, "one", 0, age_years=[20.0, 30, 40, None])
    preprocessed(tmp_path, "two", 10, nihss=[1.0, 2, 3, 4], label=["a", "b", "c", "d"])
    return tmp_path / "stores"


def combined(stores, *cohorts, grid="16mm"):
    return CombinedDataset(cohort="both", cohorts=cohorts, stores_dir=str(stores)).open(grid)


def test_the_volumes_of_all_cohorts(stores):
    store = combined(stores, "one", "two")
    parts = {name: VolumeStore.find(stores / name, "16mm") for name in ("one", "two")}
    manifest = store.manifest
    assert manifest["scan_id"].tolist() == [f"{name}_sub-{i}" for name in parts for i in range(4)]
    assert manifest["subject_id"].tolist() == [f"{name}/sub-{i}" for name in parts for i in range(4)]
    assert manifest["split"].tolist() == SPLITS * 2
    assert manifest["age_years"].fillna(-1).tolist() == [20, 30, 40, -1, -1, -1, -1, -1]
    assert manifest["nihss"].fillna(-1).tolist() == [-1, -1, -1, -1, 1, 2, 3, 4]
    seeds = [0, 1, 2, 3, 10, 11, 12, 13]
    for reader in (store, pickle.loads(pickle.dumps(store))):
        for seed, name in zip(seeds, manifest["volume"], strict=True):
            np.testing.assert_array_equal(reader.read(name), volume(seed))
    assert (store.cohort, store.simulated, store.grid) == ("both", False, GRID)
    assert store.summary["n_subjects"] == {"train": 4, "val": 2, "test": 2}
    assert store.summary["cohorts"] == {name: part.info["manifest_hash"] for name, part in parts.items()}
    assert store.summary["preprocessing"] == parts["one"].summary["preprocessing"]


def test_pretraining_reads_the_training_split_of_each_cohort_alone(stores):
    datamodule = SSLDataModule(combined(stores, "one", "two"), batch_size=4)
    (batch,) = datamodule.train_dataloader()
    expected = {volume(seed).tobytes() for seed in (0, 1, 10, 11)}
    assert {np.ascontiguousarray(drawn[0].numpy()).tobytes() for drawn in batch["volume"]} == expected
    assert len(set(batch["subject"].tolist())) == 4  # sub-0 of one cohort is not sub-0 of the other


def test_weights_of_the_combination_have_not_seen_whom_soop_evaluates(stores, tmp_path):
    preprocessed(tmp_path, "soop", 30, nihss=[1.0, 2, 3, 4])
    alone = VolumeStore.find(stores / "soop", "16mm").manifest
    for split, verdict in ((StoredSplit(), "disjoint"), (TrainOnTest(), "overlapping")):
        pretrained = check_leakage(split(combined(stores, "one", "soop").manifest), None, evaluates=False, allow=False)
        pretrained.seen.write(tmp_path)
        found = check_leakage(alone, tmp_path, evaluates=True, allow=True)
        assert found.verdict == verdict
        assert found.n_subjects == {"val": 0, "test": 0 if verdict == "disjoint" else 1}


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the memory cache is for Linux")
def test_the_memory_cache_holds_volumes_of_several_stores(stores):
    datamodule = SSLDataModule(combined(stores, "one", "two"), batch_size=4)
    datamodule.cache_in_ram(0.001)
    (first,), (second,) = datamodule.val_dataloader(), datamodule.val_dataloader()
    expected = np.stack([volume(2), volume(12)])[:, None]
    assert np.array_equal(first["volume"], expected) and np.array_equal(second["volume"], expected)


def test_identity_is_of_the_content(stores, tmp_path):
    both = combined(stores, "one", "two").identity
    assert combined(stores, "two", "one").identity == both
    assert combined(stores, "one").identity["manifest_hash"] != both["manifest_hash"]
    (stores / "two" / "exclude.csv").write_text("scan_id,reason\nsub-1,motion\n")
    fewer = combined(stores, "one", "two")
    assert fewer.identity["manifest_hash"] != both["manifest_hash"]
    assert fewer.excluded == {"two_sub-1": "motion"} and "two_sub-1" not in set(fewer.manifest["scan_id"])
    preprocessed(tmp_path, "made up", 20, simulated=True)
    assert combined(stores, "one", "made up").simulated


def test_refuses(stores, tmp_path):
    with pytest.raises(InputError) as error:
        combined(stores, "one", "adni", "two", "ppmi")
    assert "2 of 4 cohorts cannot be read on grid 16mm" in str(error.value)
    assert "dataset.cohorts='[one,two]'" in str(error.value)
    assert "\n  adni: no volume store of cohort adni" in str(error.value) and "\n  ppmi: " in str(error.value)
    with pytest.raises(InputError, match="name the cohorts"):
        combined(stores)
    with pytest.raises(InputError, match="one is there twice"):
        combined(stores, "one", "two", "one")
    preprocessed(tmp_path, "three", 20, bias=[False] * 4)
    with pytest.raises(
        InputError, match="one and three were preprocessed in different ways: bias_correction is True and"
    ):
        combined(stores, "one", "two", "three")
    with pytest.raises(InputError, match=r"both consists of cohorts that are preprocessed one by one: .* one, two"):
        CombinedDataset(cohort="both", cohorts=["one", "two"], stores_dir=str(stores)).scans()
    volumes = sorted((stores / "two").glob("*/volumes/*"))
    volumes[0].unlink()
    with pytest.raises(InputError, match="1 of 4 volumes cannot be used"):
        combined(stores, "one", "two")


def test_training_command_on_two_cohorts_of_real_scans(command, tmp_path, capsys):
    people = pd.read_csv(IXI / "participants.csv")
    people["mask_path"] = [str(IXI / "masks" / f"{name}_mask.nii.gz") for name in people["MRID"]]
    data = [f"data_dir='{tmp_path}'", "grid=16mm"]
    for name, rows in (("aomic", slice(0, 2)), ("sald", slice(2, 4))):
        people[rows].to_csv(tmp_path / f"{name}.csv", index=False)
        command(
            *("preprocess", "dataset=csv", f"dataset.cohort={name}", f"dataset.root='{IXI}'"),
            *(f"dataset.table='{tmp_path}/{name}.csv'", 'dataset.image_pattern="{MRID}_T1.nii.gz"'),
            "dataset.columns={subject_id: MRID, age_years: Age, sex: Sex, mask_path: mask_path}",
            *("splits={train: 0.5, val: 0.5, test: 0}", "n_jobs=1", "bias_correction=false", "registration=centre"),
            *data,
        )
    command(
        *("train", "+experiment=simclr_pretrain", "dataset=neuro11", "dataset.cohorts=[aomic,sald]", *data),
        *(f"runs_dir='{tmp_path}/runs'", "encoder.width=8", "strategy=cpu", "num_workers=0", "batch_size=2"),
        *("trainer.max_epochs=1", "logger=csv"),
    )
    assert "cohort neuro11 at 16mm, scans: 2 train, 2 val" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").glob("simclr_pretrain-*")
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["status"] == "finished" and list(record["dataset"]["cohorts"]) == ["aomic", "sald"]
