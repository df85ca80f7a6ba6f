"""`hf://` from a folder in the cache's layout, without network."""

import shutil
import sys

import huggingface_hub
import pytest
import torch

import neuro_ssl
from neuro_ssl.checkpoint import Weights
from neuro_ssl.errors import InputError
from tests.encoders.published_files import narrow, settled

COMMIT, OLDER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache that holds org/name at two commits, of which main is the first; and the weights as a local folder."""
    torch.save(settled(narrow(), 24, 30, 36).state_dict(), tmp_path / "monai.pt")
    Weights.load(str(tmp_path / "monai.pt")).save(tmp_path / "local")
    repository = tmp_path / "cache" / "models--org--name"
    for commit in (COMMIT, OLDER):
        shutil.copytree(tmp_path / "local", repository / "snapshots" / commit)
    (repository / "snapshots" / OLDER / "config.json").unlink()  # somebody else's files
    for ref, commit in {"main": COMMIT, "v0.9": OLDER}.items():
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_from_the_cache(hub, revision):
    weights = Weights.load(f"hf://org/name{revision}")
    assert weights.path.name == COMMIT and weights.name == Weights.load(str(hub / "local")).name
    x = torch.randn(1, 1, 24, 30, 36)
    with torch.inference_mode():
        found, expected = (neuro_ssl.load_encoder(w)(x) for w in (f"hf://org/name{revision}", hub / "local"))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://org/name@v0.9", "holds no config.json"),
        ("hf://org/absent", "not in the cache .* HF_HUB_OFFLINE is set: .*hf download org/absent"),
        ("hf://org/name@v2", "not in the cache .*hf download org/name --revision v2"),
        ("hf://name", "is hf://org/name or hf://org/name@revision"),
        ("hf://org/-name", "check the name"),
    ],
)
def test_one_clear_error(hub, address, message):
    with pytest.raises(InputError, match=message):
        Weights.load(address)


def test_an_unreachable_hub(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    assert Weights.load("hf://org/name").path.name == COMMIT
    with pytest.raises(InputError, match="the hub cannot be reached"):
        Weights.load("hf://org/absent")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'neuro_ssl\[hub\]'"):
        Weights.load("hf://org/name")
