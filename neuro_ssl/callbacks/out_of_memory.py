"""Training that ran out of memory: what the device would hold, and the settings that make it so."""

import math

import lightning.pytorch as L

from neuro_ssl.callbacks.memory import most_scans, sizes, tries_alone
from neuro_ssl.data.datamodule import ScanDataModule
from neuro_ssl.memory import device_with_memory
from neuro_ssl.tasks.gradient_cache import normalises_over_batch
from neuro_ssl.tasks.pretraining import Pretraining
from neuro_ssl.tasks.supervised import SupervisedTask


def what_would_fit(
    trainer: L.Trainer, task: Pretraining | SupervisedTask, datamodule: ScanDataModule, *, own_encoder: bool
) -> str:
    """Try smaller numbers of scans on this process's device, and say what to change.

    Args:
        trainer: after its `fit` has failed.
        task: what it trained.
        datamodule: on what.
        own_encoder: whether the encoder's settings are the user's to change.
    """
    share = datamodule.largest_share(trainer.world_size)
    micro_batch_size = task.micro_batch_size if isinstance(task, Pretraining) else None
    held = min(share, micro_batch_size or share)
    smaller = [size for size in sizes(share) if size < held]
    device = device_with_memory(trainer.strategy.root_device)
    grid = "×".join(map(str, datamodule.store.grid.shape))
    message = f"out of memory: {device} does not hold {held} scan{'s' * (held > 1)} of {grid} at once"
    if smaller and tries_alone(trainer):
        most = most_scans(trainer, task, datamodule, smaller)
        if most and isinstance(task, Pretraining):
            message += f", but {most}: micro_batch_size={most} leaves batch_size={datamodule.batch_size} as it is"
            if normalises_over_batch(task.encoder):
                message += f" (batch norm then normalises over {most} at a time)"
        elif most:
            batch_size, n = _divided(datamodule.batch_size, most, trainer.world_size)
            n *= trainer.accumulate_grad_batches
            message += f", but {most}: batch_size={batch_size} +trainer.accumulate_grad_batches={n}"
        else:
            message += ", nor fewer"
    remedies = ["a coarser grid", "a smaller encoder"]
    if smaller and not tries_alone(trainer):
        remedies.insert(0, "a smaller micro_batch_size" if isinstance(task, Pretraining) else "a smaller batch_size")
    if own_encoder and not getattr(task.encoder, "checkpoint_stages", 1):
        remedies.insert(0, "encoder.checkpoint_stages=1")
    if str(trainer.precision) == "32-true":
        remedies.insert(0, "trainer.precision=bf16-mixed")
    return f"{message}. Less memory is needed with {', '.join(remedies[:-1])} or {remedies[-1]}"


def _divided(batch_size: int, most: int, world_size: int) -> tuple[int, int]:
    """A batch in several: their size, of which a process holds its share, and how many make up the batch.

    The product is `batch_size`, unless that takes batches of half of what a process could hold, or less.
    """
    whole = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and world_size <= n <= most * world_size]
    if whole and 2 * whole[-1] > most * world_size:
        return whole[-1], batch_size // whole[-1]
    n = math.ceil(batch_size / (most * world_size))
    return math.ceil(batch_size / n), n
