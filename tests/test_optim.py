import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"warmup_fraction": 1.0}])
def test_refuses(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Optimizer(**wrong)
