"""Others' weights through the commands: imported, shown, probed, embedded."""

import json

import numpy as np
import pytest
import torch
import yaml
from monai.transforms import NormalizeIntensity, ScaleIntensity
from torch.nn.modules.module import register_module_forward_pre_hook

import neuro_ssl
from neuro_ssl.checkpoint import Weights
from neuro_ssl.data.leakage import Seen
from neuro_ssl.data.store import VolumeStore
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.optim import Optimizer
from neuro_ssl.reporting.runs.reading import read_runs
from neuro_ssl.tasks.supervised import Supervised
from neuro_ssl.views.intensity import normalise
from neuro_ssl.views.standard import Standard
from tests.conftest import IXI
from tests.encoders.published_files import keyed, narrow, resnet50_of_brainiac, settled

RESNET = "neuro_ssl.encoders.resnet3d.ResNet3D"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files of 3D-Neuro-SimCLR, of BrainIAC v1, and of plain MONAI, which takes any grid."""
    folder = tmp_path_factory.mktemp("published")
    plain = settled(narrow(), 24, 30, 36).state_dict()
    torch.save({"epoch": 1, "model_state_dict": keyed(plain, "encoder.", parallel=True)}, folder / "simclr.tar")
    torch.save({"state_dict": keyed(resnet50_of_brainiac().state_dict(), "backbone.")}, folder / "brainiac.ckpt")
    torch.save(plain, folder / "monai.pt")
    return folder


@pytest.mark.parametrize(
    ("intensity", "oracle"),
    [
        ("z_score_brain", NormalizeIntensity(nonzero=True)),
        ("z_score_volume", NormalizeIntensity()),
        ("min_max", ScaleIntensity(0, 1)),
    ],
)
def test_intensities_are_monais(intensity, oracle):
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(2, 1, 9, 10, 11, generator=generator) * (torch.rand(2, 1, 9, 10, 11, generator=generator) > 0.4)
    expected = torch.stack([torch.as_tensor(oracle(sample.clone())) for sample in volume])
    torch.testing.assert_close(
        normalise(volume, intensity), expected, atol=2e-3, rtol=2e-3
    )  # their sd divides by n - 1
    assert normalise(torch.zeros(1, 1, 2, 2, 2), intensity).abs().max() == 0
    assert normalise(volume.half(), intensity).dtype == torch.float32


def test_import_and_show(published, tmp_path, command, capsys):
    folder = tmp_path / "imported"
    command("weights", "import", published / "simclr.tar", folder)
    out = capsys.readouterr().out
    for part in ("licence: MIT", "advice: ", "grid=paper_1mm", "loaded   ", "missing  none", f"written: {folder}"):
        assert part in out
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json", "seen.json"}
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1  # readable by colleagues, as other files are
    card = json.loads((folder / "config.json").read_text())
    assert len(card["source"]["sha256"]) == 64 and card["licence"] == "MIT" and "SOOP" in card["cohorts"]
    assert Seen.by(folder) == Seen(complete=False, cohorts=frozenset(card["cohorts"]))

    shown = {}
    for weights in (folder, published / "simclr.tar"):
        command("weights", "show", weights)
        shown[weights] = capsys.readouterr().out
    assert len(set(shown.values())) == 1
    assert "64 features" in out and "PPMI, SALD, SOOP (not a complete list of subjects)" in out
    assert shown[folder] in out

    with pytest.raises(SystemExit):
        command("weights", "import", published / "simclr.tar", folder)
    assert capsys.readouterr().err.startswith(f"error: {folder} is there already")
    with pytest.raises(SystemExit):
        command("weights", "show", tmp_path)
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", lambda text: text[:-5], "config.json cannot be read"),
        ("config.json", lambda text: text.replace('"format": 1', '"format": 9'), "its format is 9"),
        ("config.json", lambda text: text.replace("z_score_brain", "rank"), "input.intensity must be one of"),
        (
            "config.json",
            lambda text: text.replace('"depth": 18', '"depth": 10'),
            "first layer1.1.* in the checkpoint, missing in the encoder",
        ),
        ("config.json", lambda text: text.replace("ResNet3D", "Gone"), "cannot be built"),
        ("config.json", lambda text: text.replace(RESNET, "os.system"), "os.system is none of neuro_ssl.encoders"),
        ("config.json", lambda text: text.replace(RESNET, "neuro_ssl.encoders.layouts.Layout"), "no torch.nn.Module"),
        ("config.json", lambda text: text.replace('"advice"', '"advise"'), "it lacks advice"),
        ("model.safetensors", lambda text: text[:50], "model.safetensors cannot be read"),
    ],
)
def test_a_damaged_folder(published, tmp_path, file, change, message):
    folder = tmp_path / "imported"
    Weights.load(str(published / "simclr.tar")).save(folder)
    content = (folder / file).read_text(encoding="latin-1")
    (folder / file).write_text(change(content), encoding="latin-1")
    with pytest.raises(InputError, match=message):
        Weights.load(str(folder)).build_encoder()


def test_the_grid_is_not_resampled(published, real_brains):
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    for name, grid in {"simclr.tar": "paper_1mm", "brainiac.ckpt": "128x128x128@1.5mm"}.items():
        weights = Weights.load(str(published / name))
        with pytest.raises(
            InputError, match=rf"{name} expect .* these have 19×24×24 .* 8 mm .*preprocess .*grid={grid}"
        ):
            weights.check_data(store.summary)
        weights.contract.check(Grid.named(grid), name)
    Weights.load(str(published / "monai.pt")).check_data(store.summary)


def test_views_of_another_intensity_are_refused(published):
    encoder = Weights.load(str(published / "brainiac.ckpt")).build_encoder()
    with pytest.raises(InputError, match="min_max, and views end in z_score_brain: use views=none"):
        Supervised(encoder, Standard(), Optimizer(), 0, False, 0.0, 1.0, "age_years")
    task = Supervised(encoder, None, Optimizer(), 0, False, 0.0, 1.0, "age_years")
    task.encoder.forward = lambda x: x.flatten(1)  # what the encoder is shown
    shown = task.extract(torch.tensor([0, 1.0, 2, 4]).reshape(1, 1, 1, 2, 2))
    assert shown.tolist() == [[0, 0.25, 0.5, 1]]


def tiny(real_brains, tmp_path):
    return [
        *("dataset=csv", "dataset.cohort=ixi", "grid=8mm", f"data_dir='{real_brains}'", f"runs_dir={tmp_path}"),
        *("strategy=cpu", "num_workers=0", "batch_size=2", "trainer.max_epochs=1", "logger=csv"),
    ]


def test_probe_on_others_weights_and_on_what_came_of_it(published, real_brains, tmp_path, command, capsys):
    card = tmp_path / "imported"
    command("weights", "import", published / "monai.pt", card)
    file = card / "config.json"  # as if they were of another intensity and a known cohort
    content = json.loads(file.read_text())
    content["input"]["intensity"] = "min_max"
    file.write_text(json.dumps(content))
    Seen(complete=False, cohorts=frozenset({"ADNI"})).write(card)
    command("train", "+experiment=linear_probe", f"weights={card}", *tiny(real_brains, tmp_path / "runs"))
    assert "they name ADNI" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").glob("linear_probe-*")
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["weights"]["name"].startswith("monai_resnet-") and record["encoder"]["name"] == "monai_resnet"
    assert record["weights"]["licence"] == "not stated in the file" and record["weights"]["intensity"] == "min_max"
    assert record["leakage"]["verdict"] == "unknown" and record["leakage"]["cohorts"] == ["ADNI"]
    assert len(read_runs(tmp_path / "runs").downstream) == 1

    tuned, original = Weights.load(str(run)), Weights.load(str(card))
    assert tuned.intensity == "min_max" and tuned.carried == original.carried
    x = torch.rand(1, 1, 19, 24, 24)
    with torch.no_grad():
        assert torch.equal(tuned.build_encoder().eval()(x), original.build_encoder().eval()(x))
    assert neuro_ssl.load_encoder(run).intensity == "min_max"
    command("weights", "show", run)
    shown = capsys.readouterr().out
    assert "input: grid=8mm, min_max" in shown and "licence: not stated" in shown and "trained on: ADNI, ixi" in shown


def test_a_published_file_names_its_cohorts(published):
    seen = Weights.load(str(published / "simclr.tar")).seen
    assert not seen.complete and "HABS-HD" in seen.cohorts and not seen.subjects


@pytest.mark.slow  # 6 s: the whole preprocessing of a head
def test_embed_prepares_what_the_weights_expect(published, tmp_path):
    """On a small grid, in place of the 1 mm of those that name one."""
    folder = tmp_path / "imported"
    Weights.load(str(published / "monai.pt")).save(folder)
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content["input"] |= {"grid": "8mm", "intensity": "min_max"}
    file.write_text(json.dumps(content))
    encoder = neuro_ssl.load_encoder(folder)
    assert encoder.input_contract.grid == Grid.named("8mm") and "min_max" in encoder.input_contract.intensity
    name = "IXI206-HH-1650"
    image, mask = IXI / f"{name}_T1.nii.gz", IXI / "masks" / f"{name}_mask.nii.gz"
    seen = []
    hook = register_module_forward_pre_hook(
        lambda module, x: seen.append(x[0]) if hasattr(module, "embed_dim") else None
    )
    try:
        features = neuro_ssl.embed_files(folder, [image], masks=[mask])
    finally:
        hook.remove()
    assert features.shape == (1, 64) and np.isfinite(features).all()
    assert seen[0].shape == (1, 1, *Grid.named("8mm").shape) and seen[0].min() == 0 and seen[0].max() == 1
