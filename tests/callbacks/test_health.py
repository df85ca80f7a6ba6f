import lightning.pytorch as L
import pandas as pd
import pytest
import torch

from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from tests.callbacks.training import train


class Breaks(ResNet3D):
    """Makes no numbers from the n-th training step on."""

    def __init__(self, at_step):
        super().__init__(width=8)
        self.at_step, self.n_steps = at_step, 0

    def forward(self, volume):
        self.n_steps += self.training
        return super().forward(volume) * (float("nan") if self.training and self.n_steps >= self.at_step else 1)


class Scans(L.Callback):
    """Which scans each step saw, and the last step begun."""

    def __init__(self):
        self.scans = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.scans.append(batch["scan"].tolist())


@pytest.mark.parametrize(
    ("every", "bad_step", "found_after"),
    [(3, 2, 3), (5, 5, 5), (50, 6, 8)],  # 50: before validation, after an epoch's four steps
)
def test_a_loss_that_is_no_number_is_found_within_the_interval(random_scans, tmp_path, every, bad_step, found_after):
    seen = Scans()
    with pytest.raises(InputError, match=f"the loss is nan at step {bad_step} ") as stop:
        train(random_scans, tmp_path, seen, encoder=Breaks(bad_step), log_every_n_steps=every)
    assert len(seen.scans) == found_after
    names = ", ".join(random_scans.manifest["scan_id"][seen.scans[bad_step - 1]])
    assert f"scans {names}: lower optimizer.learning_rate" in str(stop.value)
    assert not list((tmp_path / "checkpoints").glob("*"))


def checkpoint(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def all_finite(saved):
    return all(torch.isfinite(tensor).all() for tensor in saved["state_dict"].values())


def test_it_never_reaches_a_checkpoint(random_scans, tmp_path):
    with pytest.raises(InputError, match="the loss is nan at step 6 "):
        train(random_scans, tmp_path, encoder=Breaks(6), checkpoint_minutes=0, log_every_n_steps=50)
    assert checkpoint(tmp_path)["global_step"] == 5
    assert all_finite(checkpoint(tmp_path))
    assert {file.name for file in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


class InfiniteGradient(L.Callback):
    """Of a finite loss, in the sixth step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 5:
            pl_module.encoder.conv1.weight.grad[0, 0, 0, 0, 0] = torch.inf


def test_nor_do_weights_that_a_finite_loss_broke(random_scans, tmp_path):
    with pytest.raises(InputError, match="weights are not finite after step 6 with scans"):
        train(random_scans, tmp_path, InfiniteGradient(), checkpoint_minutes=0)
    assert checkpoint(tmp_path)["global_step"] == 5
    assert all_finite(checkpoint(tmp_path))


class Large(L.Callback):
    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        with torch.no_grad():
            pl_module.projector[-1].weight.fill_(1e30)  # whose square is infinite in float32


def test_large_weights_are_numbers(random_scans, tmp_path):
    train(random_scans, tmp_path, Large(), n_epochs=1)
    assert all_finite(checkpoint(tmp_path))


class Stop(L.Callback):
    class Stopped(Exception):
        pass

    def on_train_batch_start(self, *args):
        raise self.Stopped


def test_bfloat16_on_the_cpu_is_warned_of(random_scans, tmp_path):
    warned = "wrong weight gradients .* set trainer.precision=32-true"
    with pytest.raises(Stop.Stopped), pytest.warns(UserWarning, match=warned):
        train(random_scans, tmp_path, Stop(), precision="bf16-mixed")


class Gradients(L.Callback):
    """The norm of each step's gradient, in float64 and one weight after the other."""

    def __init__(self):
        self.norms = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        squares = [p.grad.double().square().sum() for p in pl_module.parameters()]
        self.norms.append(float(sum(squares)) ** 0.5)


def test_gradient_norms_are_logged_of_steps_that_are_and_of_an_epoch_s_last_before_any_clipping(random_scans, tmp_path):
    by_hand = Gradients()
    train(random_scans, tmp_path, by_hand, log_every_n_steps=3, gradient_clip_val=1e-3)
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    norm = metrics[metrics["metric"] == "gradient_norm"]
    assert norm["step"].tolist() == [2, 3, 5, 7, 8, 11]
    assert norm["epoch"].tolist() == [0, 0, 1, 1, 2, 2]
    assert norm["value"].tolist() == pytest.approx([by_hand.norms[step] for step in norm["step"]], rel=1e-5)
    assert norm["value"].max() > 1e-2
