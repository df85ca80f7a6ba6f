import json
import os
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.checks import check_volumes
from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store import VolumeStore, manifest_hash
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid

GRID = Grid.named("16mm")


def make_writer(tmp_path, grid=GRID):
    return StoreWriter(tmp_path / "stores", grid, {"version": 1})


@pytest.fixture
def store(tmp_path):
    image = tmp_path / "a.nii"
    image.write_text("image")
    paths = [f"{image}{number}" for number in range(5)]
    table = {"subject_id": [f"c/{number}" for number in range(5)], "image_path": paths, "split": "train"}
    scans = add_scan_ids(validate(pd.DataFrame(table), "c.csv"))
    for scan_id in scans["scan_id"]:
        make_writer(tmp_path).write(
            scan_id, np.zeros(GRID.shape, np.float16), {"brain_ml": 1.0}, np.eye(4), [str(image)]
        )
    return make_writer(tmp_path).finish(scans, "c", simulated=False)


def file(store, row):
    return store.path / store.manifest["volume"][row]


def test_a_whole_store_passes_again_and_again_and_keeps_what_it_found(store):
    check_volumes(store)
    kept = pd.read_parquet(store.path / "checks.parquet")
    assert kept["volume"].tolist() == store.manifest["volume"].tolist()
    assert kept["size"].tolist() == [file(store, row).stat().st_size for row in range(5)]
    before = (store.path / "checks.parquet").stat()
    check_volumes(store)
    after = (store.path / "checks.parquet").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)  # not even written
    assert VolumeStore.open(store.path).identity == store.identity


def foreign(path, row, tmp_path):
    other = make_writer(tmp_path / "other", Grid.named("14mm"))
    image = tmp_path / "a.nii"
    other.write("0", np.zeros(Grid.named("14mm").shape, np.float16), {"brain_ml": 1.0}, np.eye(4), [str(image)])
    path.write_bytes((other.path / "volumes/0.b2nd").read_bytes())


@pytest.mark.parametrize("checked_before", [False, True])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path, *_: path.unlink(), "No such file or directory"),
        (lambda path, *_: path.write_bytes(b""), "damaged"),
        (lambda path, *_: path.write_bytes(path.read_bytes()[:-7]), "damaged"),
        (lambda path, *_: path.write_bytes(b"nonsense" * 50), "damaged"),
        (foreign, r"float16 of shape \(11, 14, 14\) instead of float16 of \(10, 12, 12\)"),
    ],
)
def test_bad_volumes_are_named_with_the_remedy_and_found_again(store, tmp_path, damage, reason, checked_before):
    if checked_before:
        check_volumes(store)
    damage(file(store, 3), 3, tmp_path)
    for _ in range(2):
        with pytest.raises(
            InputError, match=rf"1 of 5 volumes cannot be used \(volumes/3.b2nd: {reason}\).*preprocess"
        ):
            check_volumes(store)


def test_what_was_bad_is_made_anew_by_the_writer(store, tmp_path):
    writer = make_writer(tmp_path)
    source = str(tmp_path / "a.nii")
    for content in (b"", b"nonsense" * 50):
        file(store, 2).write_bytes(content)
        assert not writer.has("2", [source])
    writer.write("2", np.zeros(GRID.shape, np.float16), {"brain_ml": 1.0}, np.eye(4), [source])
    assert writer.has("2", [source])
    check_volumes(store)


def test_a_damaged_or_unwritable_cache_only_costs_time(store, monkeypatch):
    (store.path / "checks.parquet").write_text("nonsense")
    check_volumes(store)
    assert len(pd.read_parquet(store.path / "checks.parquet")) == 5
    (store.path / "checks.parquet").unlink()
    (store.path / "checks.parquet").mkdir()  # cannot be replaced by a file
    check_volumes(store)
    assert sorted(path.name for path in store.path.iterdir()) == [
        "checks.parquet", "manifest.parquet", "measurements.parquet", "store.json", "volumes",
    ]  # fmt: skip


@pytest.mark.slow
def test_fifty_thousand_volumes_in_seconds(store, capsys):
    n = 50_000
    whole = file(store, 0).read_bytes()
    volumes = [f"volumes/many-{number:05d}.b2nd" for number in range(n)]
    for volume in volumes:
        (store.path / volume).write_bytes(whole)
    row = store.manifest.iloc[0]
    manifest = pd.DataFrame(
        {
            **row.drop(["subject_id", "image_path", "scan_id", "volume"]).to_dict(),
            "subject_id": [f"c/{number}" for number in range(n)],
            "image_path": [f"/images/{number}.nii.gz" for number in range(n)],
            "scan_id": [f"many-{number:05d}" for number in range(n)],
            "volume": volumes,
        }
    )
    many = VolumeStore(
        store.path, store.info | {"grid": asdict(GRID), "manifest_hash": manifest_hash(manifest)}, manifest
    )
    manifest.to_parquet(store.path / "manifest.parquet", index=False)
    (store.path / "store.json").write_text(json.dumps(dict(many.info)))
    seconds = {}
    for name, action in {
        "open": lambda: VolumeStore.open(store.path),
        "first check": lambda: check_volumes(many),
        "second check": lambda: check_volumes(many),
    }.items():
        start = time.perf_counter()
        action()
        seconds[name] = time.perf_counter() - start
    with capsys.disabled():
        print(f"\n50,000 volumes, {os.cpu_count()} cores: {seconds}")
    assert seconds["first check"] < 60 and seconds["second check"] < 10
