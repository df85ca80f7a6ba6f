"""The linear layer of `python -m neuro_ssl.train +experiment=linear_probe`, trained on features that exist already.

The same task, optimiser, batches and choice of the epoch as there, in a plain loop, since Lightning's costs more than a
linear layer's steps do. Only the initial weights are others, because there the encoder's come out of the seed first;
with an encoder that draws none, tests hold the predictions of the two equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from neuro_ssl.data.samplers import BatchSampler, EpochOrder, Sampling
from neuro_ssl.errors import InputError
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.supervised import Supervised


@dataclass(frozen=True)
class LinearProbe:
    """Features (n, f) → predictions (n,), in the target's unit or the probability of the positive class.

    Attributes:
        task: the trained layer, with the weights of the chosen epoch.
        epoch: which one that is, from 0.
        score: on the validation rows, by which it was chosen.
    """

    task: Supervised
    epoch: int
    score: float

    @torch.no_grad()
    def __call__(self, features: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Predictions (n,) for features (n, f)."""
        output = self.task({"features": _tensor(features)})
        return self.task.natural(output).numpy().astype(np.float64).reshape(-1)


def linear_probe(
    settings: Mapping[str, Any],
    features: npt.ArrayLike,
    target: npt.ArrayLike,
    train: npt.NDArray[Any],
    val: npt.NDArray[Any],
    *,
    optimizer: Optimizer,
    seed: int = 0,
    max_epochs: int = 100,
    batch_size: int = 32,
) -> LinearProbe:
    """Train a linear layer on the features of some rows, and keep the epoch that is best on others.

    Args:
        settings: the task, as in `conf/task`: what of `Supervised` is neither data nor encoder, such as target,
            classes, standardise_features.
        features: (n, f) of all scans.
        target: (n,), the value, or 1 for the positive class and 0 for the other.
        train: rows to train on, indices or a mask.
        val: rows to choose the epoch by, likewise: by AUROC, or the loss of a regression.
        optimizer: what to train with.
        seed: of the initial weights and the order of the scans.
        max_epochs: how long to train.
        batch_size: scans a step.

    Raises:
        InputError: no rows to train on or to choose by, values that are not finite, or validation rows of one class.
    """
    x, y = np.asarray(features), np.asarray(target)
    x_train, y_train, x_val, y_val = (_tensor(values[rows]) for rows in (train, val) for values in (x, y))
    for name, values in (("train", y_train), ("val", y_val)):
        if len(values) == 0:
            raise InputError(f"a linear probe needs scans with a target in split={name}; there are none")
    if not all(values.isfinite().all() for values in (x_train, y_train, x_val, y_val)):
        raise InputError("a linear probe needs finite features and targets; leave the other scans out")
    task = _task(settings, x_train, y_train, optimizer, seed)
    monitor, sign = task.best["monitor"], -1.0 if task.best["mode"] == "max" else 1.0
    if monitor == "val/auroc" and y_val.min() == y_val.max():
        raise InputError(
            "a linear probe's epoch is chosen by AUROC, and split=val holds one class alone: it needs both"
        )

    batches = BatchSampler(len(y_train), batch_size, order=EpochOrder(np.arange(len(y_train)), None, Sampling(), seed))
    steps = optimizer.build(task.parameters(), max_epochs * len(batches))
    step, schedule = steps["optimizer"], steps["lr_scheduler"]["scheduler"]
    best: tuple[float, int, dict[str, Tensor]] = (np.inf, -1, {})
    for epoch in range(max_epochs):
        batches.set_epoch(epoch)
        for draws in batches:
            rows = [draw.row for draw in draws]
            output = task({"features": x_train[rows]})
            step.zero_grad()
            task.loss(output, y_train[rows].reshape(output.shape)).backward()  # type: ignore[no-untyped-call]
            step.step()
            schedule.step()
        with torch.no_grad():
            output = task({"features": x_val})
            labels = y_val.reshape(output.shape)
            auroc = monitor == "val/auroc"
            score = binary_auroc(task.natural(output), labels.int()) if auroc else task.loss(output, labels)
        if sign * float(score) < best[0]:  # of equal epochs the first
            best = (sign * float(score), epoch, {name: w.clone() for name, w in task.head.state_dict().items()})
    task.head.load_state_dict(best[2])
    return LinearProbe(task.eval(), best[1], sign * best[0])


class _Cached(nn.Module):
    """In an encoder's place: its features are there already."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim


def _task(settings: Mapping[str, Any], features: Tensor, target: Tensor, optimizer: Optimizer, seed: int) -> Supervised:
    statistics = float(target.double().mean()), float(target.double().std(correction=0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = Supervised(_Cached(features.shape[1]), None, optimizer, seed, True, *statistics, **settings)
    task.scale_features(features)
    return task


def _tensor(values: npt.ArrayLike) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))
