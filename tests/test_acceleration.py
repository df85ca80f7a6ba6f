"""Options that change the speed: the same numbers, the same checkpoints, the same run."""

import os
import subprocess
import sys

import lightning.pytorch as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from neuro_ssl.acceleration import Acceleration
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.errors import InputError
from neuro_ssl.optim import Optimizer

CPU = torch.device("cpu")


def step(acceleration, norm="batch"):
    """The encoder, and features and gradients of two batches of different size."""
    torch.manual_seed(0)
    encoder, results = ResNet3D(width=8, norm=norm), []
    acceleration.apply(encoder, CPU)
    for n in (4, 3):
        encoder.zero_grad()
        features = encoder(torch.randn(n, 1, 35, 36, 40))
        features.square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in encoder.named_parameters()}
        results.append({"features": features.detach(), **gradients})
    return encoder, results


@pytest.mark.parametrize(
    "acceleration",
    [
        pytest.param(Acceleration(channels_last=True), id="channels_last"),
        pytest.param(Acceleration(compile=True, backend="aot_eager"), id="aot_eager"),
        pytest.param(Acceleration(compile=True), id="inductor", marks=pytest.mark.slow),
        pytest.param(
            Acceleration(compile=True, channels_last=True), id="inductor-channels_last", marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.parametrize("norm", ["batch", pytest.param("group", marks=pytest.mark.slow)])
def test_the_same_features_gradients_and_names(acceleration, norm):
    plain, expected = step(Acceleration(), norm)
    encoder, found = step(acceleration, norm)
    for numbers, reference in zip(found, expected, strict=True):
        largest = max(value.abs().max() for value in reference.values())
        for name, value in reference.items():  # (the gradient of a bias before batch norm is 0, but for rounding)
            error = (numbers[name] - value).abs().max()
            assert error <= 1e-3 * (value.abs().max() + 1e-3 * largest), name
    assert list(encoder.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(encoder.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)  # batch statistics
    plain.load_state_dict(encoder.state_dict())
    if acceleration.channels_last:
        assert encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)
        maps = encoder.forward_features(torch.randn(2, 1, 35, 36, 40))
        assert maps.is_contiguous(memory_format=torch.channels_last_3d) or norm == "group"


def test_an_unknown_backend():
    with pytest.raises(InputError, match="acceleration.backend=indoctor: torch.compile knows .*inductor"):
        Acceleration(backend="indoctor")


@pytest.mark.slow
def test_without_a_compiler_it_says_what_is_missing():
    look = (
        "import torch; from neuro_ssl.acceleration import Acceleration\n"
        "try: Acceleration(compile=True).apply(torch.nn.Linear(1, 1), torch.device('cpu'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {**os.environ, "PATH": "", "CXX": "/nowhere/g++"}
    said = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    (line,) = said.stdout.strip().splitlines()
    assert line.startswith("InputError acceleration.compile=true: inductor cannot compile for cpu here")
    assert "C++ compiler" in line and "or leave it out" in line


class Line(L.LightningModule):
    """A regression without convolutions, whose bfloat16 gradients on the CPU are not to be trusted."""

    def __init__(self, fused):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.fused = nn.Linear(4, 4), fused

    def training_step(self, batch, batch_idx):
        return (self.layer(batch) - batch.flip(1)).square().mean()

    def configure_optimizers(self):
        return Optimizer(fused=self.fused).build(self.parameters(), 8)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fused_steps_work_with_clipping_in_every_precision(precision, tmp_path):
    weights = []
    for fused in (False, True):
        task = Line(fused)
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=2,
            precision=precision,
            gradient_clip_val=0.1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(task, DataLoader(torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(1)), batch_size=None))
        assert trainer.optimizers[0].param_groups[0]["fused"] is fused
        weights.append(task.layer.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


FAST = ["acceleration.channels_last=true", "optimizer.fused=false", "trainer.log_every_n_steps=2"]
COMPILED = ["acceleration.compile=true", "acceleration.backend=aot_eager"]


@pytest.mark.parametrize("options", [FAST, pytest.param(FAST + COMPILED, marks=pytest.mark.slow)], ids=len)
def test_a_run_goes_on_with_other_options(random_scans, tmp_path, command, options):
    """Begun plain, killed, ended with every option on: one run, and the weights of an undisturbed one."""
    from neuro_ssl.callbacks import Progress

    def arguments(runs):
        return [
            *("+experiment=simclr_pretrain", "dataset=csv", "dataset.cohort=c", "grid=16mm", "strategy=cpu"),
            *("encoder.width=8", "encoder.norm=group", "batch_size=4", "trainer.max_epochs=3", "num_workers=0"),
            *("logger=csv", "checkpoint_minutes=0", f"data_dir={random_scans.path.parents[2]}"),
            f"runs_dir={tmp_path / runs}",
        ]

    def final(runs):
        (run,) = (tmp_path / runs).glob("simclr_pretrain-*")
        return run.name, torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)

    class KilledError(BaseException):
        pass

    def kill(self, trainer, *args):
        if trainer.global_step == 4:
            raise KilledError

    command("train", *arguments("whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "on_train_epoch_start", kill)
        with pytest.raises(KilledError):
            command("train", *arguments("changed"))
    command("train", *arguments("changed"), *options)
    (name, whole), (changed_name, changed) = final("whole"), final("changed")
    assert changed_name == name
    assert whole["state_dict"].keys() == changed["state_dict"].keys()
    for key, weights in whole["state_dict"].items():
        torch.testing.assert_close(changed["state_dict"][key], weights, rtol=1e-3, atol=1e-4, msg=key)
        assert changed["state_dict"][key].is_contiguous()
