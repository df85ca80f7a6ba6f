"""Gradient caching: the gradients of a direct step, in memory that the batch's size doesn't affect."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from neuro_ssl.benchmarking.memory import peak_bytes
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.losses import nt_xent
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.gradient_cache import n_micro_batches, normalises_over_batch
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.tasks.yaware import YAware
from neuro_ssl.views.random import uniform
from neuro_ssl.views.standard import Standard

CPU = torch.device("cpu")


class Views(nn.Module):
    """A random scale and offset of every voxel, in exactly the same arithmetic whatever the batch."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, volume, keys):
        noise, offset = uniform(keys, "noise", *volume.shape[1:]), uniform(keys, "offset", 1, 1, 1, 1)
        return volume.to(self.dtype) * noise.to(self.dtype) + offset.to(self.dtype)


def batch(n, side=12):
    volume = torch.rand(n, 1, side, side, side, generator=torch.Generator().manual_seed(0)).half()
    number = torch.arange(n)
    subject = torch.tensor([0, 0, *range(1, n - 1)])
    age = torch.linspace(20, 60, n)[:, None]
    return {"volume": volume, "scan": number, "subject": subject, "epoch": 0 * number, "draw": number} | {
        "covariates": age,
        "shares": (n,),
    }


def resnet(norm="group", kind=ResNet3D):
    torch.manual_seed(0)
    return kind(width=8, norm=norm)


def simclr(micro_batch_size, encoder=None, dtype=torch.float32, task=SimCLR):
    encoder = encoder or resnet()
    torch.manual_seed(1)
    settings = {"micro_batch_size": micro_batch_size, "projector_dims": (16, 8)}
    return task(encoder, Views(dtype), Optimizer(), 3, **settings).to(dtype)


def gradients(task):
    return {name: parameter.grad.clone() for name, parameter in task.named_parameters()}


def step(task, data, autocast=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, accuracy, embedding = task.contrast(data)
    loss.backward()
    return loss.detach(), accuracy, embedding.detach(), gradients(task)


def all_at_once(task, data, parts, autocast=False):
    """The oracle: micro-batches one after another, all that they hold kept, then one backward."""
    embeddings = []
    for rows in parts:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            views = task.make_views({key: data[key][rows] for key in ("volume", "epoch", "draw")})
            embeddings.append(torch.stack(task.encoder(torch.cat(views)).chunk(2), dim=1))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        first, second = task.projector(torch.cat(embeddings)).unbind(1)
    loss, _ = nt_xent(first, second, data["subject"], task.temperature)
    loss.backward()
    return loss.detach(), gradients(task)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("task", [SimCLR, YAware])
def test_equals_a_direct_step(task, dtype, tolerance):
    direct = step(simclr(None, dtype=dtype, task=task), batch(5))
    assert max(gradient.abs().max() for gradient in direct[-1].values()) > 1e-3
    for micro_batch_size in (1, 2, 3, 5, 9):
        cached = step(simclr(micro_batch_size, dtype=dtype, task=task), batch(5))
        torch.testing.assert_close(cached, direct, atol=tolerance, rtol=tolerance)


def test_equals_a_direct_step_with_our_views():
    """Whose float32 differs by the last digit between batches of different size."""
    tasks = [simclr(size) for size in (None, 2)]
    for task in tasks:
        task.views = Standard()
    torch.testing.assert_close(*(step(task, batch(5)) for task in tasks), atol=1e-5, rtol=1e-5)


def test_batch_statistics_are_updated_once():
    cached, plain = (simclr(2, resnet("batch")) for _ in range(2))
    before = copy.deepcopy(dict(cached.encoder.named_buffers()))
    loss, _, _, found = step(cached, batch(5))
    expected = all_at_once(plain, batch(5), [slice(0, 1), slice(1, 3), slice(3, 5)])
    torch.testing.assert_close((loss, found), expected, atol=1e-6, rtol=1e-6)
    buffers = dict(cached.encoder.named_buffers())
    torch.testing.assert_close(buffers, dict(plain.encoder.named_buffers()), atol=0, rtol=0)
    assert buffers["bn1.num_batches_tracked"] == before["bn1.num_batches_tracked"] + 3
    assert not torch.equal(buffers["bn1.running_mean"], before["bn1.running_mean"])


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("change", ["checkpointed", pytest.param("compiled", marks=pytest.mark.slow)])
def test_together_with_an_encoder_that_is(change, norm):
    """What recomputes too; batches of other sizes are compiled anew."""
    plain, changed = (simclr(2, resnet(norm)) for _ in range(2))
    if change == "checkpointed":
        changed.encoder.recompute_first(3)
    else:
        changed.encoder.compile(backend="aot_eager")
    for n in (5, 4):
        expected, found = ((step(task, batch(n)), dict(task.encoder.named_buffers())) for task in (plain, changed))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    if norm == "batch":
        assert changed.encoder.bn1.num_batches_tracked == 3 + 2


class WithDropout(ResNet3D):
    def forward(self, volume):
        return nn.functional.dropout(super().forward(volume), 0.5, self.training)


def test_dropout_is_the_same_in_the_recomputation():
    results = []
    for direct in (False, True):
        task = simclr(2, resnet(kind=WithDropout))
        torch.manual_seed(5)
        halves = [slice(0, 2), slice(2, 4)]
        results.append(all_at_once(task, batch(4), halves) if direct else step(task, batch(4))[::3])
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-6)


class Perceptron(nn.Sequential):
    """An encoder without convolutions, whose gradient in bfloat16 is noise at tiny sizes on some CPUs (torch 2.13)."""

    embed_dim = 64

    def __init__(self):
        torch.manual_seed(0)
        layers = (nn.Linear(8**3, 64), nn.GroupNorm(8, 64), nn.ReLU(), nn.Linear(64, 64))
        super().__init__(nn.Flatten(), *layers)


def test_mixed_precision():
    """What half precision costs is what it costs a direct step too; caching adds nothing."""
    data = batch(6, 8)
    exact = step(simclr(None, Perceptron(), torch.float64), data)[-1]
    direct = step(simclr(None, Perceptron()), data, autocast=True)[-1]
    loss, _, _, cached = step(simclr(1, Perceptron()), data, autocast=True)
    parts = [slice(i, i + 1) for i in range(6)]
    expected = all_at_once(simclr(1, Perceptron()), data, parts, autocast=True)
    torch.testing.assert_close((loss, cached), expected, atol=1e-5, rtol=1e-5)

    def error(found):
        return sum((found[name].double() - exact[name]).square().sum() for name in exact).sqrt()

    assert error(cached) < 1.5 * error(direct)


class Untouched(nn.Module):
    def forward(self, volume, keys):
        return volume.float()


def test_memory_does_not_grow_with_the_batch():
    def held(n, micro_batch_size):
        task, data = simclr(micro_batch_size), batch(n, 24)
        task.views = Untouched()
        return peak_bytes(lambda: step(task, data), CPU)

    small, large = held(2, 1), held(6, 1)
    assert large < 1.02 * small
    assert held(6, None) > 1.2 * large


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device: a number or a shape that depends on a tensor's values."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"), name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("micro_batch_size", [None, 2])
@pytest.mark.parametrize("task", [SimCLR, YAware])
def test_the_host_never_waits_for_the_device(task, micro_batch_size):
    """In the task's part of a step: views, the optimiser and Lightning's loop are tested where they are made."""
    task = simclr(micro_batch_size, task=task)
    task.views, task.log = Untouched(), lambda *args, **kwargs: None  # logging is Lightning's
    with NoWaiting():
        task.training_step(batch(5), 0).backward()
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            task.train_loss.compute().item()
    assert task.train_loss.compute() == task.train_loss.mean_value / 5


def test_all_ranks_have_equally_many_micro_batches():
    assert n_micro_batches([7], None) == 1
    for smallest in range(1, 9):
        for shares in ([smallest] * 3, [smallest + 1, smallest, smallest]):
            for size in range(1, 11):
                n = n_micro_batches(shares, size)
                assert 1 <= n <= smallest  # none is empty
                largest = -(-max(shares) // n)
                assert largest <= size or (size == 1 and largest == 2 and shares[0] > smallest)


def test_what_normalises_over_the_batch():
    assert normalises_over_batch(ResNet3D(width=8))
    assert not normalises_over_batch(ResNet3D(width=8, norm="group"))


@pytest.mark.parametrize("size", [0, -2])
def test_refuses(size):
    with pytest.raises(InputError, match=f"micro_batch_size must be at least 1, or null .* got {size}"):
        simclr(size)
