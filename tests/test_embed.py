"""`python -m neuro_ssl.embed`: every scan once, in the manifest's order, whatever the processes and interruptions."""

import dataclasses
import json
import resource
import subprocess
import sys

import lightning.pytorch as L
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from lightning.pytorch.strategies import DDPStrategy

import neuro_ssl
from neuro_ssl import embedding
from neuro_ssl.checkpoint import Weights
from neuro_ssl.config import PREDICTING
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.distributed import world_size
from neuro_ssl.embedding import embed_store
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from tests.data_layer.test_exclusions import make_store
from tests.distributed.processes import on_processes


def arguments(pretrained, real_brains, output, *more):
    data = ("dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", "num_workers=0")
    return ("embed", f"weights={pretrained}", *data, "strategy=cpu", f"output='{output}'", *more)


def features_in(table):
    return table[[name for name in table if name[0] == "f" and name[1:].isdigit()]].to_numpy()


def test_the_command(pretrained, real_brains, tmp_path, command, capsys):
    output = tmp_path / "features.parquet"
    command(*arguments(pretrained, real_brains, output))
    table = pd.read_parquet(output)
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    labels = ["scan_id", "subject_id", "cohort", "age_years", "sex", "split", "brain_ml"]
    pd.testing.assert_frame_equal(table[labels], store.manifest[labels])
    assert not {"image_path", "mask_path", "volume"} & set(table)
    assert table["seen_in_training"].tolist() == (store.manifest["split"] == "train").tolist()

    encoder = neuro_ssl.load_encoder(pretrained)
    expected = []
    for name in store.manifest["volume"]:
        volume = store.read(name).astype(np.float64)
        brain = volume[volume > 0]
        volume[volume > 0] = (brain - brain.mean()) / brain.std()
        expected.append(encoder(torch.from_numpy(volume.astype(np.float32))[None, None])[0].detach().numpy())
    found = features_in(table)
    assert found.shape == (4, 64) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 1e-3  # the heads differ

    about = json.loads(pq.read_schema(output).metadata[b"neuro_ssl"])
    assert about["made_by"]["weights"] == pretrained.name
    assert about["made_by"]["store"] == store.identity
    assert about["version"] == neuro_ssl.__version__ and about["simulated"] == store.simulated

    written = output.stat().st_mtime_ns
    command(*arguments(pretrained, real_brains, output))
    assert "already there" in capsys.readouterr().out
    assert output.stat().st_mtime_ns == written
    assert [file.name for file in tmp_path.iterdir()] == [output.name]


@pytest.mark.slow
def test_the_command_on_two_processes(pretrained, real_brains, tmp_path, command):
    """Which Lightning starts; without GPUs, and in parts of one scan."""
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    command(*arguments(pretrained, real_brains, one))
    ddp = ["strategy=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true", "part_size=1"]
    name, *words = (word for word in arguments(pretrained, real_brains, two, *ddp) if word != "strategy=cpu")
    done = subprocess.run(
        [sys.executable, "-m", f"neuro_ssl.{name}", *words], check=True, timeout=180, capture_output=True, text=True
    )
    assert done.stdout.count(f"features: {two}, 4 scans of ixi") == 1
    pd.testing.assert_frame_equal(*map(pd.read_parquet, (one, two)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["weights=null"], "weights: give a run directory"),
        (["batch_size=0"], "batch_size must be at least 1, got 0"),
        (["layer=9", "pooling=mean"], "layer must be last or from 0 to 4"),
        (["trainer.precision=bf16-true"], "trainer.precision must be 32-true, 16-mixed or bf16-mixed, got bf16-true"),
        (["+trainer.logger=true"], "trainer.logger is not a parameter"),
        (["+dataset.nothing=1"], "dataset.nothing is not a parameter"),
        (["grid=4mm"], "no volume store of cohort ixi on grid 4mm"),
    ],
)
def test_one_clear_error(pretrained, real_brains, tmp_path, command, capsys, more, message):
    with pytest.raises(SystemExit, match="1"):
        command(*arguments(pretrained, real_brains, tmp_path / "features.parquet", *more))
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def weights_for(store, path, seed=0):
    """A run's weights as `Weights.load` gives them, of scans prepared as the store's; it doesn't say whom it saw."""
    torch.manual_seed(seed)
    encoder = {"_target_": "neuro_ssl.encoders.resnet3d.ResNet3D", "depth": 10, "width": 8, "norm": "group"}
    state = ResNet3D(depth=10, width=8, norm="group").state_dict()
    return Weights("a_run", path, {"dataset": store.summary}, encoder, state)


def embedded(store, output, *, precision="32-true", seed=0, **options):
    """On as many processes as there are."""
    n_processes = world_size()
    strategy = DDPStrategy(process_group_backend="gloo") if n_processes > 1 else "auto"
    trainer = L.Trainer(accelerator="cpu", devices=n_processes, strategy=strategy, precision=precision, **PREDICTING)
    options = {"batch_size": 2, "part_size": 3} | options
    return embed_store(weights_for(store, output.parent, seed), store, output, trainer, **options)


@dataclasses.dataclass(frozen=True, eq=False)
class Watched(VolumeStore):
    """Notes what is read, and fails after so many volumes, as a killed process would."""

    most: int = 1000
    seen: list = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, store, most=1000):
        return cls(store.path, store.info, store.manifest, store.excluded, most)

    def read(self, volume):
        if len(self.seen) == self.most:
            raise KeyboardInterrupt
        self.seen.append(volume)
        return super().read(volume)


@pytest.fixture(scope="module")
def in_one_go(random_scans, tmp_path_factory):
    output = tmp_path_factory.mktemp("one") / "features.parquet"
    assert embedded(random_scans, output)
    return pd.read_parquet(output)


def test_an_interrupted_one_goes_on(random_scans, in_one_go, tmp_path):
    output, first = tmp_path / "features.parquet", Watched.of(random_scans, most=8)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        embedded(first, output)
    assert not output.exists()
    (folder,) = tmp_path.iterdir()
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="another process makes the same file"):
        embedded(random_scans, output)
    second = Watched.of(random_scans)
    assert embedded(second, output)
    assert second.seen == random_scans.manifest["volume"].tolist()[6:]  # two parts of three scans were whole
    pd.testing.assert_frame_equal(pd.read_parquet(output), in_one_go, check_exact=True)
    assert [file.name for file in tmp_path.iterdir()] == [output.name]


def test_two_processes_write_the_same_file(random_scans, in_one_go, tmp_path):
    """Five parts over two processes, of which another command, interrupted, made the first: 2 + 2."""
    output = tmp_path / "features.parquet"
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        embedded(Watched.of(random_scans, most=4), output)
    assert on_processes(2, embedded, random_scans, output) == [True, True]
    pd.testing.assert_frame_equal(pd.read_parquet(output), in_one_go, check_exact=True)


def test_more_processes_than_parts(random_scans, in_one_go, tmp_path):
    output = tmp_path / "features.parquet"
    on_processes(2, embedded_in_one_part, random_scans, output)
    np.testing.assert_allclose(features_in(pd.read_parquet(output)), features_in(in_one_go), rtol=1e-4, atol=1e-5)


def embedded_in_one_part(store, output):
    return embedded(store, output, part_size=64)


def test_weights_that_do_not_say_whom_they_saw(in_one_go):
    assert in_one_go["seen_in_training"].isna().all()


def test_joined_in_pieces(random_scans, in_one_go, tmp_path, monkeypatch):
    """The file is written in row groups: never are all features in memory."""
    monkeypatch.setattr(embedding, "JOINED", 2)
    output = tmp_path / "features.parquet"
    embedded(random_scans, output)
    file = pq.ParquetFile(output)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [6, 6, 1]
    pd.testing.assert_frame_equal(pd.read_parquet(output), in_one_go, check_exact=True)


def test_mixed_precision_layers_and_workers(random_scans, in_one_go, tmp_path):
    output = tmp_path / "features.parquet"
    embedded(random_scans, output, precision="bf16-mixed", num_workers=1)
    mixed, full = features_in(pd.read_parquet(output)), features_in(in_one_go)
    assert mixed.dtype == np.float32 and not np.array_equal(mixed, full)
    np.testing.assert_allclose(mixed, full, atol=0.03 * np.abs(full).max())
    for change in ({"layer": 1, "pooling": "max"}, {"seed": 1}, {"precision": "32-true"}):
        with pytest.raises(InputError, match="is there, and not of these weights, scans and options"):
            embedded(random_scans, output, **{"precision": "bf16-mixed", **change})
    inner = tmp_path / "inner.parquet"
    embedded(random_scans, inner, layer=1, pooling="max")
    assert features_in(pd.read_parquet(inner)).shape == (13, 8)


def test_other_scans_than_the_weights_expect(random_scans, tmp_path):
    weights = weights_for(random_scans, tmp_path)
    weights.record["dataset"] = random_scans.summary | {"grid": "8mm"}
    with pytest.raises(InputError, match="were trained on scans with grid=8mm, these have grid=16mm"):
        embed_store(weights, random_scans, tmp_path / "f.parquet", L.Trainer(accelerator="cpu", **PREDICTING))


def test_a_column_that_is_called_like_a_feature(random_scans, tmp_path):
    manifest = random_scans.manifest.assign(f3=1.0)
    with pytest.raises(InputError, match="the manifest has a column f3"):
        embedded(dataclasses.replace(random_scans, manifest=manifest), tmp_path / "f.parquet")


def memory_to_embed(n_scans, store, output):
    """By how many MB this process grows at most."""
    first = store.manifest.iloc[[0] * n_scans].assign(scan_id=[f"s{i:04d}" for i in range(n_scans)])
    repeated = dataclasses.replace(store, manifest=first.reset_index(drop=True))
    before = psutil.Process().memory_info().rss
    embedded(repeated, output, batch_size=4, part_size=64)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6


@pytest.mark.slow
def test_a_thousand_scans_take_no_more_memory_than_a_few(tmp_path):
    store = make_store(tmp_path, ["a"], grid="3mm")  # a volume is 0.4 MB, and all of them in float32 would be 800 MB
    few, many = (
        on_processes(1, memory_to_embed, n, store, tmp_path / f"{n}.parquet", timeout_s=300)[0] for n in (32, 1000)
    )
    assert len(pd.read_parquet(tmp_path / "1000.parquet")) == 1000
    assert few > 0 and many < few + 50, (few, many)
