import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.checks import check_volumes
from neuro_ssl.data.datamodule import SSLDataModule
from neuro_ssl.data.exclusions import add_exclusions, read_exclusions
from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid


def make_store(tmp_path, names="abcd", grid="16mm", failed=()):
    """One subject a scan; volumes hold the position of the scan's letter in the alphabet."""
    grid = Grid.named(grid)
    table = {
        "subject_id": [f"c/sub-{name}" for name in names],
        "image_path": [f"/images/{name}.nii" for name in names],
        "split": ["val" if name == "b" else "train" for name in names],
    }
    scans = add_scan_ids(validate(pd.DataFrame(table), "c.csv"))
    writer = StoreWriter(tmp_path / "stores" / "c", grid, {"version": 1})
    jobs = {scan_id: [image] for scan_id, image in zip(scans["scan_id"], scans["image_path"], strict=True)}
    source = tmp_path / "source.nii"
    source.parent.mkdir(exist_ok=True)
    source.write_text("image")
    for scan_id in jobs:
        if scan_id not in failed:
            value = np.full(grid.shape, ord(scan_id[-1]) - ord("a") + 1, np.float16)
            writer.write(scan_id, value, {"brain_ml": 1.0}, np.eye(4), [str(source)])
    writer.note_failures(jobs, dict.fromkeys(failed, "broken"))
    return writer.finish(scans, "c", simulated=False)


def write(store, text):
    (store.path.parent / "exclude.csv").write_text(text)
    return VolumeStore.open(store.path)


def test_excluded_scans_are_gone_for_all_readers_and_come_back(tmp_path):
    whole = make_store(tmp_path)
    store = write(whole, "scan_id,reason\nsub-a,moved\nsub-c,\n")
    assert store.manifest["scan_id"].tolist() == ["sub-b", "sub-d"]
    assert store.excluded == {"sub-a": "moved", "sub-c": ""}
    assert store.summary["n_excluded"] == 2 and store.summary["n_scans"] == {"train": 1, "val": 1}
    assert store.identity["manifest_hash"] != whole.identity["manifest_hash"]  # another run's name
    check_volumes(store)
    datamodule = SSLDataModule(store, batch_size=1)
    (batch,) = datamodule.train_dataloader()
    assert batch["volume"].unique().tolist() == [4]  # d, by the right row
    assert store.manifest["scan_id"][int(batch["scan"])] == "sub-d"
    assert VolumeStore.open(store.path, with_excluded=True).identity == whole.identity
    (store.path.parent / "exclude.csv").unlink()
    again = VolumeStore.open(store.path)
    assert again.identity == whole.identity and len(again.manifest) == 4 and again.summary["n_excluded"] == 0


def test_the_identity_is_of_what_is_left(tmp_path):
    store = write(make_store(tmp_path / "one"), "scan_id,reason\nsub-a,moved\n")
    reworded = write(make_store(tmp_path / "two"), "scan_id,reason\nsub-a,other words\n")
    without = make_store(tmp_path / "three", names="bcd")
    assert store.identity == reworded.identity == without.identity


def test_a_misspelt_scan_is_an_error_and_one_known_elsewhere_is_not(tmp_path):
    store = make_store(tmp_path, failed=["sub-c"])
    make_store(tmp_path, names="abe", grid="14mm")
    assert write(store, "scan_id,reason\nsub-c,failed\nsub-e,on another grid\n").excluded == {}
    with pytest.raises(InputError, match=r"exclude.csv: no scan 'sub_d' in cohort c; did you mean sub-d\?"):
        write(store, "scan_id,reason\nsub_d,\n")
    with pytest.raises(InputError, match="no scan '007' in cohort c; correct the row, or delete it"):
        write(store, "scan_id,reason\n007,\n")
    with pytest.raises(InputError, match="exclude.csv leaves none of the 3 scans"):
        write(store, "scan_id,reason\nsub-a,\nsub-b,\nsub-d,\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scan,reason\na,b\n", "exclude.csv: no column 'scan_id'; did you mean 'scan'"),
        ("scan_id,reason\na,b\n,c\n", "exclude.csv, row 2: no scan_id"),
        ("scan_id,reason\na,b\na,c\n", "exclude.csv: a is in two rows"),
        ("scan_id;reason\na;b\n", "separated by ';'"),
        ("", "not a table"),
    ],
)
def test_refuses_other_files(tmp_path, text, message):
    (tmp_path / "exclude.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_exclusions(tmp_path)


def test_adding_keeps_what_a_person_wrote(tmp_path):
    folder = tmp_path / "new" / "c"
    assert read_exclusions(folder) == {}
    assert add_exclusions(folder, {"007": "motion, seen by eye"}) == 1
    assert read_exclusions(folder) == {"007": "motion, seen by eye"}
    by_hand = "scan_id,reason,who\n1,my words,AB\n007,,\n"
    (folder / "exclude.csv").write_text(by_hand)
    assert add_exclusions(folder, {"1": "automatic", "007": "automatic"}) == 0
    assert (folder / "exclude.csv").read_text() == by_hand
    assert add_exclusions(folder, {"1": "automatic", "2": "automatic"}) == 1
    assert (folder / "exclude.csv").read_text() == by_hand + "2,automatic,\n"
    (folder / "exclude.csv").write_text("scan_id\n1\n")  # the reason may be left out
    assert read_exclusions(folder) == {"1": ""}
