import json

import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.checks import check_volumes, verify_volumes
from neuro_ssl.data.store import VolumeStore
from tests.data_layer.test_exclusions import make_store


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path, "abcd", failed=["sub-d"])


def exits(command, code, *arguments):
    with pytest.raises(SystemExit) as stop:
        command("store", *arguments)
    assert stop.value.code == code


def test_info_tells_what_a_store_holds(store, command, capsys):
    (store.path.parent / "exclude.csv").write_text("scan_id,reason\nsub-a,moved\n")
    make_store(store.path.parents[2], "ab", grid="14mm")
    command("store", "info", store.path)
    one = capsys.readouterr().out
    for part in [
        "cohort c: 2 scans of 2 subjects (train 1, val 1); 1 more are left out by exclude.csv",
        f"store: {store.path}, 10×12×12 voxels, 0.0 MB",
        "grid: 16mm, 16 mm",
        "preprocessing: version 1",
        "scans: train 1, val 1",
        "left out by exclude.csv: 1\n  sub-a: moved",
        "failed, in failures.csv: 1\n  sub-d: broken",
        json.loads((store.path / "store.json").read_text())["preprocessing_hash"],
        VolumeStore.open(store.path).identity["manifest_hash"],
    ]:
        assert part in one
    command("store", "info", store.path.parent)
    both = capsys.readouterr().out
    assert one.strip() in both and both.count("store: ") == 2 and "grid: 14mm" in both


def test_verify_passes_what_was_written_and_names_what_changed(store, command, capsys):
    command("store", "verify", store.path, "--n-jobs", 1)
    assert capsys.readouterr().out == f"{store.path}: 3 of 3 volumes are as written\n"
    (store.path.parent / "exclude.csv").write_text("scan_id,reason\nsub-a,moved\n")  # its volume counts all the same
    a, b, _ = (store.path / volume for volume in store.manifest["volume"])
    b.write_bytes(a.read_bytes())  # sound, and another scan's
    a.unlink()
    exits(command, 1, "verify", store.path.parent, "--n-jobs", 1)
    shown = capsys.readouterr()
    assert f"{a}: missing\n{b}: its voxels are not those that were written\n" in shown.out
    assert "1 of 3 volumes are as written" in shown.out
    assert shown.err == "error: 2 volumes are bad; delete these files and run the preprocess command again\n"


def test_every_flipped_bit_of_the_voxels_is_found(tmp_path):
    """Most of them open and decode without a complaint."""
    store = make_store(tmp_path, "a")
    (volume,) = store.manifest["volume"]
    random = np.random.default_rng(0)
    noise = random.random(store.grid.shape).astype(np.float16)
    store = rewritten(store, noise)
    whole, silent = (store.path / volume).read_bytes(), 0
    for position in random.integers(400, len(whole) - 800, 60):  # between header and metadata
        flipped = bytearray(whole)
        flipped[position] ^= 1 << random.integers(8)
        (store.path / volume).write_bytes(flipped)
        assert list(verify_volumes(store, n_jobs=1)) == [volume], position
        silent += passes_the_headers(store)
    assert silent > 30


def rewritten(store, voxels):
    from neuro_ssl.data.store_writer import StoreWriter

    writer = StoreWriter(store.path.parent, store.grid, store.info["preprocessing"])
    source = store.path.parents[2] / "source.nii"
    writer.write("sub-a", voxels, {"brain_ml": 1.0}, np.eye(4), [str(source)])
    columns = ["subject_id", "image_path", "cohort", "split", "scan_id"]
    return writer.finish(pd.DataFrame(store.manifest[columns]), "c", simulated=False)


def passes_the_headers(store):
    (store.path / "checks.parquet").unlink(missing_ok=True)
    check_volumes(store)
    return True


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "required: info | verify"),
        (["show"], 2, "invalid choice: 'show'"),
        (["info"], 2, "required: path"),
        (["info", "nowhere"], 1, "error: nowhere: no finished volume store, nor a cohort's folder of them"),
        (["verify", "nowhere", "--n-jobs", "0"], 1, "error: --n-jobs must be at least 1, got 0"),
    ],
)
def test_refuses(command, capsys, arguments, code, message):
    exits(command, code, *arguments)
    assert message in capsys.readouterr().err
