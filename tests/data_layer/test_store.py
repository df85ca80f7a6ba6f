import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store import VolumeStore, open_volume
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid

GRID = Grid.named("16mm")


def volume(seed):
    return np.random.default_rng(seed).random(GRID.shape).astype(np.float16)


@pytest.fixture
def scans(tmp_path):
    paths = [tmp_path / f"{name}.nii" for name in "ab"]
    for path in paths:
        path.write_text(f"image {path.name}")
    table = {
        "subject_id": ["c/a", "c/b"],
        "image_path": map(str, paths),
        "split": ["train", "test"],
        "age_years": [1 / 3, None],
    }
    return add_scan_ids(validate(pd.DataFrame(table), "c.csv"))


def write(tmp_path, scans, **settings):
    writer = StoreWriter(tmp_path / "stores" / "c", GRID, {"version": 1, **settings})
    for seed, row in enumerate(scans.itertuples()):
        writer.write(row.scan_id, volume(seed), {"brain_ml": 1234.5}, np.eye(4), [row.image_path])
    return writer, writer.finish(scans, "c", simulated=True)


def test_what_is_written_is_read(tmp_path, scans):
    writer, store = write(tmp_path, scans)
    for seed, name in enumerate(store.manifest["volume"]):
        np.testing.assert_array_equal(store.read(name), volume(seed))
    assert (store.cohort, store.simulated, store.grid) == ("c", True, GRID)
    assert store.manifest["brain_ml"].tolist() == [1234.5, 1234.5]
    assert store.summary["n_scans"] == store.summary["n_subjects"] == {"train": 1, "test": 1}
    found = VolumeStore.find(tmp_path / "stores" / "c", "16mm")
    pd.testing.assert_frame_equal(found.manifest, store.manifest)
    assert found.path == writer.path and found.identity == store.identity
    assert {file.name for file in writer.path.rglob("*") if "partial" in file.name} == set()


def test_read_in_forked_and_spawned_processes(tmp_path, scans):
    _, store = write(tmp_path, scans)
    names = store.manifest["volume"].tolist()
    store.read(names[0])  # the parent has used the decoder before it forks
    assert pickle.loads(pickle.dumps(store)).identity == store.identity
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        for seed, array in enumerate(pool.map(store.read, names, timeout=20)):
            np.testing.assert_array_equal(array, volume(seed))


def test_a_volume_is_kept_only_while_source_and_settings_are_the_same(tmp_path, scans):
    writer, _ = write(tmp_path, scans)
    source, scan_id = scans["image_path"][0], scans["scan_id"][0]
    assert writer.has(scan_id, [source])
    assert not StoreWriter(writer.store_dir, GRID, {"version": 2}).has(scan_id, [source])
    assert not StoreWriter(writer.store_dir, Grid.named("8mm"), {"version": 1}).has(scan_id, [source])
    copy = tmp_path / "copy.nii"
    copy.write_text("image a.nii")  # the same content, written at another time
    assert writer.has(scan_id, [str(copy)])
    copy.write_text("image A.nii")
    assert not writer.has(scan_id, [str(copy)])
    assert not writer.has(scan_id, [source, str(copy)])  # now with a mask
    assert not writer.has("another", [source])


def test_identity_is_of_the_content_not_of_the_place(tmp_path, scans):
    _, here = write(tmp_path / "here", scans)
    moved = scans.copy()
    moved["image_path"] = [path.replace("a.nii", "a2.nii") for path in moved["image_path"]]
    (tmp_path / "a2.nii").write_text("image a.nii")
    _, elsewhere = write(tmp_path / "there", moved)
    assert elsewhere.identity == here.identity
    _, other = write(tmp_path / "other", scans.assign(split=["test", "train"]))
    assert other.identity["manifest_hash"] != here.identity["manifest_hash"]


def test_find_refuses_none_and_several(tmp_path, scans):
    folder = tmp_path / "stores" / "c"
    with pytest.raises(InputError, match=r"no volume store of cohort c on grid 4mm .*neuro_ssl\.preprocess grid=4mm"):
        VolumeStore.find(folder, "4mm")
    first, _ = write(tmp_path, scans)
    with pytest.raises(InputError, match=f"there are {first.path.name}; make it by"):
        VolumeStore.find(folder, "4mm")
    second, _ = write(tmp_path, scans, brain_extraction="deepbet")
    with pytest.raises(InputError, match=f"2 stores of grid 16mm: choose .*{second.path.name}"):
        VolumeStore.find(folder, "16mm")
    assert VolumeStore.find(folder, second.path.name).path == second.path


def other_format(path):
    info = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(info | {"format_version": 99}))


def other_split(path):
    manifest = pd.read_parquet(path / "manifest.parquet")
    manifest.assign(split="train").to_parquet(path / "manifest.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "store.json").unlink(), "no finished volume store"),
        (other_format, "format 99, and this version"),
        (lambda path: (path / "store.json").write_text("{"), r"store.json: damaged .*run the preprocess command again"),
        (
            lambda path: (path / "store.json").write_text('{"format_version": 2}'),
            "store.json: damaged, it lacks cohort",
        ),
        (lambda path: (path / "manifest.parquet").unlink(), "no such table; run the preprocess command again"),
        (
            lambda path: (path / "manifest.parquet").write_text("x"),
            "not a readable Parquet .* preprocess command again",
        ),
        (other_split, "manifest.parquet was changed"),
    ],
)
def test_open_refuses_what_is_not_whole(tmp_path, scans, damage, message):
    _, store = write(tmp_path, scans)
    damage(store.path)
    with pytest.raises(InputError, match=message):
        VolumeStore.open(store.path)


def test_a_damaged_volume_is_named(tmp_path, scans):
    _, store = write(tmp_path, scans)
    name = store.manifest["volume"][0]
    whole = (store.path / name).read_bytes()
    for content in (b"", b"nonsense" * 50, whole[: len(whole) // 2]):
        (store.path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: damaged"):
            store.read(name)


def test_a_volume_with_a_whole_header_and_damaged_content_is_named(tmp_path, scans):
    _, store = write(tmp_path, scans)
    name = store.manifest["volume"][0]
    content = bytearray((store.path / name).read_bytes())
    content[200:400] = bytes(200)
    (store.path / name).write_bytes(content)
    open_volume(store.path / name)
    with pytest.raises(InputError, match=f"{name}: damaged .*delete it and run the preprocess command again"):
        store.read(name)
