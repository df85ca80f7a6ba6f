import re
import sys

import pytest

import neuro_ssl
from tests.test_configs import CONF


def test_every_encoder_is_listed_as_its_file_describes_it():
    found = {encoder.name: encoder for encoder in neuro_ssl.list_encoders()}
    assert set(found) == {file.stem for file in (CONF / "encoder").glob("*.yaml")}
    for name, encoder in found.items():
        title, features, millions = re.match(
            r"# (.+): (\d+) features, ([\d.]+) M parameters", (CONF / "encoder" / f"{name}.yaml").read_text()
        ).groups()
        assert encoder.description == title and encoder.embed_dim == int(features)
        assert encoder.parameters / 1e6 == pytest.approx(float(millions), abs=0.051)
    assert found["resnet18"].config["depth"] == 18


def test_an_extra_that_is_not_installed(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    (resenc,) = [encoder for encoder in neuro_ssl.list_encoders() if encoder.name == "resenc_l"]
    assert resenc.embed_dim is None and resenc.parameters is None and "ResEnc-L" in resenc.description
