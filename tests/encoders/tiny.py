"""Every encoder that `encoder=` names, at a size for tests."""

import importlib.util

import pytest
import torch
import yaml
from torch import nn

from neuro_ssl.config import build
from tests.test_configs import CONF

VIT = {"width": 24, "n_layers": 2, "n_heads": 2, "patch_size": [5, 8, 8]}
TINY = {
    "resnet10": {"width": 8},
    "resnet18": {"width": 8},
    "resnet34": {"width": 8},
    "resnet50": {"width": 8},
    "densenet121": {"block_config": [2, 1], "growth_rate": 4, "init_features": 8},
    "sfcn": {"channels": [4, 8, 8, 8]},
    "vit_tiny": VIT,
    "vit_small": VIT | {"class_token": True},
    "vit_base": VIT,
    "resenc_l": {"features": [4, 6, 8], "blocks": [1, 2, 1]},
}
FAMILIES = ["resnet10", "resnet50", "densenet121", "sfcn", "vit_tiny", "vit_small", "resenc_l"]
SHAPE = (21, 35, 38)  # nothing that any of them divides


def node(name, **parameters):
    return yaml.safe_load((CONF / "encoder" / f"{name}.yaml").read_text()) | parameters


def tiny(name, **parameters):
    torch.manual_seed(0)
    encoder = build(node(name, **TINY[name] | parameters))
    with torch.no_grad():  # away from zeros at which some start, so that all their parts matter
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return encoder


def settled(name, **parameters):
    """In evaluation mode, with a batch's own statistics in batch norm, so that values don't grow through the layers."""
    encoder = tiny(name, **parameters)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        encoder.train()(volume(4))
    return encoder.eval()


def volume(batch=2, shape=SHAPE):
    return torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(1))


def over(names):
    """Parametrise over encoders; the one that is an extra needs its package."""
    absent = importlib.util.find_spec("dynamic_network_architectures") is None
    extra = pytest.mark.skipif(absent, reason="pip install 'neuro_ssl[resenc]'")
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=extra if name == "resenc_l" else ()) for name in names]
    )
