import copy
import math

import pytest
import torch
from torch import nn

from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.errors import InputError
from neuro_ssl.optim import Optimizer


def rates(optimizer, n_steps):
    built = optimizer.build([nn.Parameter(torch.zeros(2, 2))], n_steps)
    schedule, rate = built["lr_scheduler"]["scheduler"], []
    for _ in range(n_steps):
        rate.append(schedule.get_last_lr()[0])
        built["optimizer"].step()
        schedule.step()
    return rate


def test_cosine_rises_then_falls_to_zero():
    rate = rates(Optimizer(learning_rate=1.0, warmup_fraction=0.1), 100)
    assert rate[0] < 0.2
    assert max(rate) == pytest.approx(1, abs=0.01)
    assert rate.index(max(rate)) in (9, 10, 11)
    assert rate[55] == pytest.approx(0.5, abs=0.02)
    assert rate[-1] < 0.01


def test_the_papers_rate_is_constant():
    optimizer = Optimizer(algorithm="adam", learning_rate=3e-4, schedule="constant", warmup_fraction=0.0)
    assert set(rates(optimizer, 5)) == {3e-4}
    assert type(optimizer.build([nn.Parameter(torch.zeros(1))], 1)["optimizer"]) is torch.optim.Adam


def test_biases_norms_and_frozen_parameters():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    decayed, exempt = Optimizer(weight_decay=0.1).build(model.parameters(), 1)["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.1
    assert decayed["params"][0] is model[2].weight
    assert len(decayed["params"]) == 1
    assert exempt["weight_decay"] == 0
    assert len(exempt["params"]) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"weight_decay": -0.1},
        {"warmup_fraction": 1.0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
    ],
)
def test_refuses(wrong):
    with pytest.raises(InputError, match=f"optimizer.{next(iter(wrong))}"):
        Optimizer(**wrong)


def gradients(parameters, step):
    """Any numbers will do, if they are the same for the same step."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for p in parameters]


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6), nn.Conv3d(6, 4, 2)).to(dtype)


class Deep(nn.Sequential):
    """An encoder of two groups, convolution with norm and convolution."""

    def depth_groups(self):
        return [[*self[0].parameters(), *self[1].parameters()], list(self[2].parameters())]


def trained(optimizer, model, steps, state=None, n_steps=20):
    """The optimiser, after these steps of a run."""
    built = optimizer.build(model.parameters(), n_steps, model)
    if state is not None:
        built["optimizer"].load_state_dict(copy.deepcopy(state))
    parameters = list(model.parameters())
    for step in steps:
        for parameter, gradient in zip(parameters, gradients(parameters, step), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)  # laid out as autograd does
        built["optimizer"].step()
        built["lr_scheduler"]["scheduler"].step()
    return built["optimizer"]


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_lars_against_a_plain_loop(layer_decay):
    """You et al. 2017, with the paper's rate, weight decay and cosine; biases and norms by momentum alone."""
    model, n_steps = Deep(*network(torch.float64)), 20
    rate = 0.3 * 72 / 256
    below_head = [2, 2, 2, 2, 1, 1]  # of each parameter: two of the first convolution, two of the norm, two of the last
    weights = [p.detach().clone() for p in model.parameters()]
    velocity = [torch.zeros_like(w) for w in weights]
    for step in range(n_steps):
        step_rate = rate * (1 + math.cos(math.pi * step / n_steps)) / 2
        for i, gradient in enumerate(gradients(weights, step)):
            if weights[i].ndim > 1:
                w, g = math.sqrt((weights[i] ** 2).sum()), math.sqrt((gradient**2).sum())
                gradient = 0.001 * w / (g + 1e-6 * w) * (gradient + 1e-6 * weights[i])
            velocity[i] = 0.9 * velocity[i] + gradient
            weights[i] = weights[i] - step_rate * layer_decay ** below_head[i] * velocity[i]

    lars = Optimizer(
        algorithm="lars", learning_rate=rate, weight_decay=1e-6, warmup_fraction=0.0, layer_decay=layer_decay
    )
    trained(lars, model, range(n_steps), n_steps=n_steps)
    for parameter, expected in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["adamw", "adam"])
def test_a_fused_step_is_the_same(algorithm):
    models = network(), network()
    for fused, model in enumerate(models):
        optimizer = trained(Optimizer(algorithm=algorithm, fused=bool(fused)), model, range(20))
        assert optimizer.param_groups[0]["fused"] is bool(fused)
    torch.testing.assert_close(*(list(model.parameters()) for model in models), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_a_run_that_goes_on_by_the_other_kernel(fused):
    one, other = (Optimizer(fused=f, schedule="constant", warmup_fraction=0.0) for f in (fused, not fused))
    undisturbed, model = network(), network()
    trained(one, undisturbed, range(10))
    state = trained(other, model, range(5)).state_dict()
    optimizer = trained(one, model, range(5, 10), state)
    assert {group["fused"] for group in optimizer.param_groups} == {fused}
    torch.testing.assert_close(list(model.parameters()), list(undisturbed.parameters()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("layouts", [(False, True), (True, False)], ids=["to channels last", "back"])
def test_a_run_that_goes_on_in_another_memory_layout(fused, layouts):
    """Fused kernels pair a parameter's numbers with its state's by their order in memory."""

    def laid_out(model, channels_last):
        return model.to(memory_format=torch.channels_last_3d if channels_last else torch.contiguous_format)

    optimizer = Optimizer(fused=fused, schedule="constant", warmup_fraction=0.0)
    undisturbed, before, after = network(), network(), network()
    trained(optimizer, undisturbed, range(10))
    state = trained(optimizer, laid_out(before, layouts[0]), range(5)).state_dict()
    laid_out(after, layouts[1]).load_state_dict(before.state_dict())
    trained(optimizer, after, range(5, 10), state)
    torch.testing.assert_close(list(after.parameters()), list(undisturbed.parameters()), rtol=1e-5, atol=1e-6)


def mae_scale(name, n_layers, decay):
    """He et al. 2022's `get_layer_id_for_vit` and `param_groups_lrd`, restated, with the last norm as a layer."""
    if name.startswith("encoder.patch_embedding"):
        layer = 0
    elif name.startswith("encoder.blocks"):
        layer = int(name.split(".")[2]) + 1
    elif name.startswith("encoder.norm"):
        layer = n_layers + 1
    else:
        layer = n_layers + 2
    return decay ** (n_layers + 2 - layer)


@pytest.mark.parametrize("algorithm", ["adamw", "adam"])
def test_layer_wise_rates_are_those_of_mae_with_weight_decay_and_warm_up(algorithm):
    """Adam's first step moves every weight by its rate, AdamW's decays it first. (Adam's decay is in the gradient.)"""
    torch.manual_seed(0)
    task = nn.ModuleDict(
        {"encoder": ViT3D(width=12, n_heads=2, n_layers=3, patch_size=(4, 4, 4)), "head": nn.Linear(12, 1)}
    )
    frozen = task["encoder"].blocks[0].linear1.weight.requires_grad_(False)
    optimizer = Optimizer(
        algorithm=algorithm, learning_rate=0.01, weight_decay=0.1, warmup_fraction=0.5, layer_decay=0.75
    )
    built = optimizer.build(task.parameters(), 6, task["encoder"])
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    for p in task.parameters():
        p.grad = None if p is frozen else torch.ones_like(p)
    built["optimizer"].step()
    for name, p in task.named_parameters():
        rate = 0.01 / 4 * mae_scale(name, 3, 0.75)  # the first of three steps of warm-up
        decay = rate * 0.1 * before[name] if algorithm == "adamw" and p.ndim > 1 else 0
        expected = before[name] if p is frozen else before[name] - decay - rate
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-3 * rate, msg=name)
    assert built["lr_scheduler"]["scheduler"].get_last_lr()[0] == pytest.approx(0.01 / 4)  # what is logged: the head's


def test_without_layer_decay_any_module_is_an_encoder():
    model = network()
    assert len(Optimizer().build(model.parameters(), 1, model)["optimizer"].param_groups) == 2
    with pytest.raises(
        InputError, match="layer_decay=0.5 goes by .* Sequential lacks: .* set optimizer.layer_decay=1.0"
    ):
        Optimizer(layer_decay=0.5).build(model.parameters(), 1, model)
