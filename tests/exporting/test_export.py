"""A run's weights as a folder: the same features, nothing private, and no Hydra or Lightning to read it."""

import json
import shutil
import subprocess
import sys

import onnxruntime
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open
from torch import nn

import neuro_ssl
from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.leakage import Seen
from neuro_ssl.errors import InputError
from neuro_ssl.exporting.folder import Choices, export
from neuro_ssl.exporting.graphs import write_torch_export
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.runs.reading import read_runs
from tests.conftest import run_command
from tests.encoders.tiny import TINY, node, over, settled

SHAPE = (19, 24, 24)  # of grid=8mm


def data(real_brains, runs):
    return [
        *("dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={runs}"),
        *("strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"),
    ]


@pytest.fixture(scope="module")
def run(real_brains, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    small = ("encoder=sfcn", "encoder.channels=[4,8,8,8]")
    run_command("train", "+experiment=simclr_pretrain", *small, *data(real_brains, runs))
    (found,) = runs.glob("simclr_pretrain-*")
    return found


def volume(batch):
    return torch.randn(batch, 1, *SHAPE, generator=torch.Generator().manual_seed(7))


def features(weights, batch=2):
    with torch.inference_mode():
        return neuro_ssl.load_encoder(weights)(volume(batch))


def edited(run, folder, change, state=None):
    """A copy of the run with another record, and another encoder's state if one is given."""
    shutil.copytree(run, folder)
    record = yaml.safe_load((run / "run.yaml").read_text())
    change(record)
    (folder / "run.yaml").write_text(yaml.safe_dump(record))
    if state is not None:
        torch.save({"state_dict": {f"encoder.{k}": v for k, v in state.items()}}, folder / "checkpoints" / "last.ckpt")
    return folder


def with_encoder(run, folder, name):
    encoder = settled(name)
    config = node(name, **TINY[name])
    return edited(run, folder, lambda record: record["config"].update(encoder=config), encoder.state_dict())


def test_the_folder(run, real_brains, tmp_path, command, capsys):
    """Through the commands: exported, shown, probed, and exported again with the probe's scores and as a graph."""
    folder = tmp_path / "exported"
    command("weights", "export", run, folder)
    out = capsys.readouterr().out
    assert f"hf upload ORG/{run.name} {folder}" in out and "export again with --licence" in out
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json", "seen.json", "README.md"}
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1 and folder.stat().st_mode & 0o055
    assert not [path for path in tmp_path.iterdir() if path != folder]

    assert torch.equal(features(folder), features(run))
    contracts = [neuro_ssl.load_encoder(weights).input_contract for weights in (folder, run)]
    assert contracts[0] == contracts[1]
    command("weights", "show", folder)
    assert capsys.readouterr().out in out

    # One name, so that a downstream run is the same from either.
    probe = ("+experiment=linear_probe", "task=brain_age", *data(real_brains, tmp_path / "runs"))
    command("train", *probe, f"weights={folder}")
    assert "leakage unknown" in capsys.readouterr().out
    command("train", *probe, f"weights={run}")
    assert "already finished" in capsys.readouterr().out

    again, runs = tmp_path / "with scores", tmp_path / "runs"
    command("weights", "export", run, again, "--licence", "cc-by-4.0", "--runs", runs, "--torch-export")
    assert "--licence" not in capsys.readouterr().out
    (downstream,) = read_runs(runs).downstream
    card = ModelCard.load(again / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "neuro_ssl"
    assert f"MAE {format_score(downstream.results.scores['mae'].score)} years" in card.text

    expected = features(run, 3)
    program = torch.export.load(again / "model.pt2").module()
    torch.testing.assert_close(program(volume(3)), expected, atol=1e-4, rtol=0)


def test_nothing_private_leaves(run, real_brains, tmp_path):
    folder = tmp_path / "exported"
    export(str(run), folder, Choices())
    record = yaml.safe_load((run / "run.yaml").read_text())
    texts = "".join((folder / name).read_text() for name in ("config.json", "seen.json", "README.md"))
    for private in (str(real_brains), str(run.parent), record["command"], "IXI206", *Seen.by(run).subjects):
        assert private not in texts
    assert Seen.by(folder) == Seen(complete=False, cohorts=Seen.by(run).cohorts) and Seen.by(run).complete
    assert "names the cohorts and no subject" in texts and "license: FILL-IN" in texts and "SIMULATED" not in texts

    knowingly = tmp_path / "knowingly"
    export(str(run), knowingly, Choices(subject_hashes=True))
    assert Seen.by(knowingly) == Seen.by(run)
    assert f"lists {len(Seen.by(run).subjects)} hashed subjects" in (knowingly / "README.md").read_text()


def test_simulated_data_and_others_weights_are_told(run, tmp_path):
    def change(record):
        record["dataset"]["simulated"] = True
        licence = {"licence": "CC BY-NC 4.0", "advice": "fine-tune", "citation": "Somebody 2020"}
        record["weights"] = {"name": "theirs-1", "path": "/secret/theirs", "intensity": "min_max", **licence}
        record["covariates"] = ["age_years"]

    weights = export(str(edited(run, tmp_path / "run", change)), tmp_path / "folder", Choices(licence="mit"))
    assert weights.intensity == "min_max" == neuro_ssl.load_encoder(tmp_path / "folder").intensity
    assert weights.card["citation"].startswith("Somebody 2020; ")
    text = (tmp_path / "folder" / "README.md").read_text()
    for part in (
        "simulated-data",
        "**Trained on SIMULATED images**",
        "mit; started from weights of the licence CC BY-NC",
    ):
        assert part in text
    for part in ("min_max, 0 to 1 over all voxels", "fine-tune", "the weights theirs-1", "subjects: age_years"):
        assert part in text
    assert "secret" not in text + (tmp_path / "folder" / "config.json").read_text()


def test_other_preprocessing_is_refused(run, tmp_path):
    weights = export(str(run), tmp_path / "folder", Choices())
    dataset = yaml.safe_load((run / "run.yaml").read_text())["dataset"]
    weights.check_data(dataset)
    other = {**dataset, "preprocessing": {**dataset["preprocessing"], "registration": "rigid"}}
    with pytest.raises(InputError, match="trained on scans with registration=centre, these have registration=rigid"):
        weights.check_data(other)
    with pytest.raises(InputError, match="expect volumes of 19×24×24"):
        weights.check_data({**dataset, "grid": "4mm"})


def test_without_hydra_and_lightning(run, tmp_path):
    folder = tmp_path / "exported"
    export(str(run), folder, Choices())
    torch.save(volume(2), tmp_path / "volume.pt")
    code = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hydra", "omegaconf", "lightning", "pytorch_lightning", "lightning_fabric"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import torch
from neuro_ssl import load_encoder
with torch.inference_mode():
    torch.save(load_encoder(sys.argv[1])(torch.load(sys.argv[2])), sys.argv[3])
"""
    files = [folder, tmp_path / "volume.pt", tmp_path / "features.pt"]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True)
    assert torch.equal(torch.load(files[2]), features(run))


@over(["resenc_l"])
def test_tensors_of_two_names_are_written_once(run, tmp_path, name):
    copy = with_encoder(run, tmp_path / "run", name)
    export(str(copy), tmp_path / "folder", Choices())
    with safe_open(tmp_path / "folder" / "model.safetensors", "pt") as file:
        written = set(file.keys())
    encoder = settled(name)
    assert len(written) == len(list(encoder.parameters())) + len(list(encoder.buffers())) < len(encoder.state_dict())
    assert torch.equal(features(tmp_path / "folder"), features(copy))


@pytest.mark.slow  # 2 to 5 s an encoder
@over([name for name in TINY if name not in ("vit_tiny", "vit_base", "resnet18", "resnet34")])
def test_graphs_of_every_family(run, tmp_path, name):
    copy = with_encoder(run, tmp_path / "run", name)
    export(str(copy), tmp_path / "folder", Choices(onnx=True, torch_export=True))
    expected = features(copy, 3)
    tolerance = 1e-4 * max(1.0, float(expected.abs().max()))
    session = onnxruntime.InferenceSession(tmp_path / "folder" / "model.onnx")
    (found,) = session.run(["features"], {"volume": volume(3).numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=tolerance, rtol=0)
    program = torch.export.load(tmp_path / "folder" / "model.pt2").module()
    torch.testing.assert_close(program(volume(3)), expected, atol=tolerance, rtol=0)


class AnotherWhenExported(nn.Module):
    def __init__(self, difference):
        super().__init__()
        self.difference = difference

    def forward(self, x):
        x = x.mean(dim=(2, 3, 4))
        return x + self.difference if torch.compiler.is_exporting() else x


def test_a_graph_with_other_features_is_refused(tmp_path):
    write_torch_export(AnotherWhenExported(2e-5), (4, 4, 4), tmp_path / "same.pt2")
    for difference in (2e-4, float("nan")):
        with pytest.raises(InputError, match=r"model.pt2 is not exported: its features differ .* by (2.0e-04|nan)"):
            write_torch_export(AnotherWhenExported(difference), (4, 4, 4), tmp_path / "model.pt2")


def target(name):
    return lambda record: record["config"]["encoder"].update(_target_=name)


def test_one_clear_error(run, tmp_path, command, capsys, monkeypatch):
    folder = tmp_path / "exported"
    export(str(run), folder, Choices())

    def refused(message, weights=run, output=tmp_path / "new", *options):
        with pytest.raises(SystemExit):
            command("weights", "export", weights, output, *options)
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
        assert not (tmp_path / "new").exists()

    refused("exported is there already", run, folder)
    refused("is no run of this package", folder)
    refused("is not a run directory", tmp_path)
    refused("unfinished", edited(run, tmp_path / "unfinished", lambda record: record.update(status="running")))
    refused("my_encoders.Plain is none of neuro_ssl.encoders", edited(run, tmp_path / "x", target("my_encoders.Plain")))
    refused(f"no finished downstream run there started from {run.name}", run, tmp_path / "new", "--runs", run.parent)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused("pip install 'neuro_ssl[onnx]'", run, tmp_path / "new", "--onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["run"].pop("dataset"), "config.json cannot be read"),
        (lambda card: card["run"]["dataset"].pop("preprocessing"), "its run.dataset lacks preprocessing"),
        (lambda card: card["run"].pop("name"), "config.json cannot be read"),
    ],
)
def test_a_damaged_folder(run, tmp_path, change, message):
    export(str(run), tmp_path / "folder", Choices())
    file = tmp_path / "folder" / "config.json"
    card = json.loads(file.read_text())
    change(card)
    file.write_text(json.dumps(card))
    with pytest.raises(InputError, match=message):
        Weights.load(str(tmp_path / "folder"))
