"""How many scans a device holds at once: found by trying, before the first step.

A trial is a forward and a backward of some scans by one process alone, in the precision of the run, while memory is
held for what else a step needs: gradients that are there already, the optimiser's states, and a margin. It leaves no
trace: weights, gradients, buffers, metrics and random numbers stay as they are. A compiled encoder is tried as it is
without, which needs no less.

Lightning's BatchSizeFinder doesn't fit: it changes the batch that the loss sees, steps the optimiser, and hangs where
one of several processes runs out of memory and the others don't.
"""

import bisect
import math
import warnings
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.memory import garbage_collection_cuda
from torch import Tensor, nn
from tqdm import tqdm

from neuro_ssl.data.batches import Batch
from neuro_ssl.data.datamodule import ScanDataModule
from neuro_ssl.data.samplers import Draw
from neuro_ssl.distributed import alone, gather_objects
from neuro_ssl.encoders.recompute import unchanged_buffers
from neuro_ssl.errors import InputError
from neuro_ssl.memory import device_with_memory, is_out_of_memory, total_bytes
from neuro_ssl.run import RunDirectory
from neuro_ssl.tasks.gradient_cache import normalises_over_batch
from neuro_ssl.tasks.pretraining import Pretraining
from neuro_ssl.tasks.supervised import SupervisedTask

MARGIN = 20  # a device's memory by this stays free: for fragments, kernels' workspaces, other processes' embeddings


class MicroBatchSize(L.Callback):
    """`micro_batch_size=auto`: the most scans that every process's device holds at once.

    Where all processes hold their whole share, it changes nothing. On a CPU the machine swaps, or ends the process,
    before it refuses memory: there the number is the whole share, unless the process has a limit (`ulimit -v`).

    A restart tries anew, as the GPU may be another; but for encoders with batch norm, of whose result the number is a
    part: they keep it.

    Args:
        run: whose record is to hold the number.

    Raises:
        InputError: a model whose parts lie in several processes, or a device that doesn't hold a single scan.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.found: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The number."""
        return {"micro_batch_size": self.found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number."""
        self.found = state_dict["micro_batch_size"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse early what `most_scans` cannot try."""
        if not tries_alone(trainer):
            raise InputError(
                f"micro_batch_size=auto: under {type(trainer.strategy).__name__} no process can try what it holds "
                "without the others; give a number"
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the number of before a restart, which may come when all is trained."""
        if self.found and trainer.is_global_zero:
            self.run.note(micro_batch_size=self.found)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the number, agree on it, and tell it."""
        assert isinstance(pl_module, Pretraining)
        datamodule: ScanDataModule = trainer.datamodule  # type: ignore[attr-defined]
        part_of_result = normalises_over_batch(pl_module.encoder)
        share = datamodule.largest_share(trainer.world_size)
        how = "as before the restart"
        if self.found is None or not part_of_result:
            mine = most_scans(trainer, pl_module, datamodule, sizes(share))
            self.found = min(gather_objects([mine]))
            how = f"of {share} a step" if self.found < share else "all of a step"
            if not self.found:
                raise InputError(
                    f"micro_batch_size=auto: {device_with_memory(pl_module.device)} does not hold a single scan: take "
                    "a coarser grid, trainer.precision=bf16-mixed, encoder.checkpoint_stages or a smaller encoder"
                )
            if part_of_result and trainer.is_global_zero:
                warnings.warn(
                    "micro_batch_size=auto: batch norm makes the number that this device holds a part of the result; "
                    f"micro_batch_size={self.found} repeats it on any",
                    stacklevel=2,
                )
        pl_module.micro_batch_size = self.found
        if trainer.is_global_zero:
            self.run.note(micro_batch_size=self.found)
            device = device_with_memory(pl_module.device)
            tqdm.write(f"micro_batch_size=auto: {self.found} scans at once, {how}, on {device}")


def tries_alone(trainer: L.Trainer) -> bool:
    """Whether each process holds the whole model, so that it can try what fits without the others."""
    return isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)


def sizes(share: int) -> list[int]:
    """Of a share of so many scans, the sizes of its parts if divided evenly: ⌈share / 1⌉, ⌈share / 2⌉, …; ascending."""
    return sorted({math.ceil(share / n_parts) for n_parts in range(1, share + 1)})


def most_scans(
    trainer: L.Trainer,
    task: Pretraining | SupervisedTask,
    datamodule: ScanDataModule,
    candidates: Sequence[int],
) -> int:
    """The largest of some numbers of scans that this process's device holds at once in a step.

    Args:
        trainer: whose device, precision and optimisers count. No other process is needed.
        task: what computes them.
        datamodule: of the scans, of which the first training scan stands for all: they are of one shape.
        candidates: ascending.

    Returns:
        The number; 0: none fits.
    """
    task.to(trainer.strategy.root_device)

    def fits(n_scans: int) -> bool:
        try:
            _try(trainer, task, datamodule, n_scans)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        garbage_collection_cuda()
        return False

    if candidates and fits(candidates[-1]):
        return candidates[-1]
    index = bisect.bisect_left(candidates[:-1], True, key=lambda n_scans: not fits(n_scans))
    return candidates[index - 1] if index else 0


def _try(trainer: L.Trainer, task: Pretraining | SupervisedTask, datamodule: ScanDataModule, n_scans: int) -> None:
    device = trainer.strategy.root_device
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    training = task.training
    gpus = [device] if device.type == "cuda" else []
    with alone(task), torch.random.fork_rng(gpus), unchanged_buffers([task]), torch.compiler.set_stance("force_eager"):
        task.train()
        try:
            held = _reserved(trainer, parameters, device)
            batch = trainer.precision_plugin.convert_input(_alike(datamodule, n_scans))
            batch = datamodule.transfer_batch_to_device(batch, device, 0)
            with trainer.precision_plugin.forward_context():
                loss = task.loss_of(batch)
            # (`backward` would leave gradients, and wake the hooks by which DDP meets the other processes.)
            torch.autograd.grad(loss, parameters, allow_unused=True)
            del held
        finally:
            task.train(training)


def _alike(datamodule: ScanDataModule, n_scans: int) -> Batch:
    """A batch of the first training scan as often as asked for, as if each were of another subject."""
    one = datamodule.datasets["train"][[Draw(0, 0, 0)]]
    batch = {name: value.repeat(n_scans, *[1] * (value.ndim - 1)) for name, value in one.items()}
    return batch | {"subject": torch.arange(n_scans), "shares": (n_scans,)}


def _reserved(trainer: L.Trainer, parameters: Sequence[nn.Parameter], device: torch.device) -> Tensor:
    """Memory for a gradient of each parameter, for two states of the optimiser where there are none, and a margin."""
    states = [values for optimizer in trainer.optimizers for values in optimizer.state.values()]
    there = any(
        isinstance(value, Tensor) and value.ndim and value.device == device for s in states for value in s.values()
    )
    n_bytes = sum(parameter.nbytes for parameter in parameters) * (1 if there else 3)
    return torch.empty(n_bytes + total_bytes(device) // MARGIN, dtype=torch.uint8, device=device)
