"""Every pretraining task takes a step with every encoder that it can work with, and says so of the others."""

import math

import pytest
import torch
import yaml
from hydra.utils import get_class

from neuro_ssl.config import build
from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.errors import InputError
from neuro_ssl.optim import Optimizer
from neuro_ssl.views.standard import Standard
from tests.encoders.tiny import TINY, over, tiny
from tests.test_configs import CONF


def nodes(group):
    return {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CONF / group).glob("*.yaml"))}


TASKS = {name: node for name, node in nodes("task").items() if get_class(node["_target_"]).stage == "pretraining"}
SHAPE = (21, 32, 32)


def batch(n=4):
    volume = torch.rand(n, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) + 0.1
    volume[:, :, :4] = 0
    number = torch.arange(n)
    return {
        "volume": volume.half(),
        **{"scan": number, "subject": number, "epoch": 0 * number, "draw": number, "shares": (n,)},
        "covariates": torch.tensor([[20.0], [30.0], [31.0], [float("nan")]]),
    }


@over(TINY)
@pytest.mark.parametrize("task_name", TASKS)
def test_one_step(task_name, name):
    network = tiny(name)
    parts = {"encoder": network, "views": Standard(), "optimizer": Optimizer(), "seed": 0}
    if "mae" in task_name and not isinstance(network, ViT3D):
        with pytest.raises(InputError, match="choose encoder=vit_tiny, vit_small or vit_base"):
            build(TASKS[task_name], **parts)
        return
    task = build(TASKS[task_name], **parts).train()
    measured, _ = task.measure(batch())
    assert set(measured) == set(task.measures) and all(math.isfinite(x.detach()) for x in measured.values())
    measured["loss"].backward()
    for which, parameter in task.named_parameters():
        assert parameter.grad is not None, which  # DDP refuses a parameter without one
        assert torch.isfinite(parameter.grad).all(), which
    torch.optim.SGD(task.parameters(), 0.1).step()
    task.eval()
    with torch.no_grad():
        after, embedding = task.measure(batch())
    assert embedding.shape == (4, network.embed_dim)
    assert math.isfinite(after["loss"]) and after["loss"] != measured["loss"]


def test_the_encoders_that_a_refusal_names_are_those_that_work():
    tokens = {name for name, node in nodes("encoder").items() if node["_target_"].endswith("ViT3D")}
    assert tokens == {"vit_tiny", "vit_small", "vit_base"}
