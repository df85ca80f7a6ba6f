"""No step waits for the device, but those that are logged.

On a GPU the host runs ahead of the device until something asks for a value (`.item()`, `if tensor`, boolean indexing)
or copies one there (`torch.tensor(number, device=…)`). The operators that do so are the same on the CPU, where this
test looks for them.
"""

import functools
import traceback

import lightning.pytorch as L
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuro_ssl.encoders.vit3d import ViT3D
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.mae import MAE
from neuro_ssl.tasks.simclr_mae import SimCLRMAE
from tests.callbacks.training import train

aten = torch.ops.aten
WAIT = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.lift_fresh, aten._unique2}
EVERY = 5  # of 12 steps, in three epochs of four


def where():
    """The line that asked, ours if there is one."""
    lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()[:-2]]
    ours = [line for line in lines if "/neuro_ssl/" in line]
    return (ours or lines)[-1]


class Watch(L.Callback, TorchDispatchMode):
    """Last of the callbacks: watches from the start of a step to the end of all callbacks' work on it."""

    def __init__(self):
        super().__init__()
        TorchDispatchMode.__init__(self)
        self.watching, self.waits, self.n_watched, self.counters = False, [], 0, set()

    def on_train_batch_start(self, trainer, *args):
        # Non-fused optimisers keep their step counters on the CPU, whatever the parameters' device, and read them.
        states = trainer.optimizers[0].state.values()
        self.counters = {state["step"].data_ptr() for state in states if "step" in state}
        # (The first step makes the optimiser's state.)
        self.watching = trainer.global_step > 0 and (trainer.global_step + 1) % EVERY != 0
        self.n_watched += self.watching

    def on_train_batch_end(self, *args):
        self.watching = False

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if self.watching:
            packet = operator.overloadpacket
            masks = packet in (aten.index, aten.index_put_) and any(
                index is not None and index.dtype == torch.bool for index in args[1]
            )
            counter = packet is aten._local_scalar_dense and args[0].data_ptr() in self.counters
            if (packet in WAIT or masks) and not counter:
                self.waits.append(f"{operator} in {where()}")
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (Optimizer(fused=False), {}),
        (Optimizer(), {"gradient_clip_val": 1.0}),
        (Optimizer(algorithm="lars"), {"gradient_clip_val": 1.0}),
    ],
    ids=["adamw", "fused-clipped", "lars"],
)
def test_no_step_waits_between_logged_ones(random_scans, tmp_path, optimizer, settings):
    watch = Watch()
    with watch:
        train(random_scans, tmp_path, watch, optimizer=optimizer, log_every_n_steps=EVERY, **settings)
    assert watch.n_watched == 9
    assert watch.waits == []


@pytest.mark.parametrize("kind", [MAE, SimCLRMAE])
def test_nor_does_one_of_a_masked_autoencoder(random_scans, tmp_path, kind):
    watch, encoder = Watch(), ViT3D(width=24, n_layers=1, n_heads=2, patch_size=(5, 6, 6))
    foreground = functools.partial(kind, foreground_only=True)
    with watch:
        train(random_scans, tmp_path, watch, kind=foreground, encoder=encoder, log_every_n_steps=EVERY)
    assert watch.n_watched == 9
    assert watch.waits == []
