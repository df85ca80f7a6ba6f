"""Fully sharded data parallelism: each process keeps its share of weights and optimiser state (Zhao et al. 2023, FSDP).

PyTorch's `fully_shard`, around the whole module: its weights are gathered for a step, and its gradients are averaged
and shared out at the end, so that a step computes what it does under DDP.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from neuro_ssl.errors import InputError

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # what a checkpoint holds
STEPS = ("training_step", "validation_step", "predict_step")


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for modules that shard themselves, which shards any; checkpoints are whole, in one file.

    (Its `FSDPStrategy` is of an older kind, which shards flattened weights: that clips no gradient norm, and weight
    decay couldn't tell a kernel from a bias.)
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """All processes are data-parallel."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        """Shard the module, once, and make its optimisers.

        Raises:
            InputError: what PyTorch can't shard: weights laid out channels last, or LARS.
        """
        module = self._module
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        if not isinstance(module, FSDPModule):
            if self._layer_sync:
                self._layer_sync.apply(module)
            self.model_to_device()
            if not all(parameter.is_contiguous() for parameter in module.parameters()):
                raise InputError(
                    "acceleration.channels_last=true: its layout has no shares; leave it out, or take strategy=ddp"
                )
            fully_shard(module, mesh=self.device_mesh["data_parallel"])
            for name in STEPS:
                register_fsdp_forward_method(module, name)
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
            if any(type(optimizer).__name__ == "LARS" for optimizer in self.optimizers):
                raise InputError(
                    "optimizer.algorithm=lars: PyTorch can't compute its update on shares of the weights; take "
                    "another algorithm, or strategy=ddp"
                )
        self.setup_precision_plugin()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights, in the first process; none in the others."""
        self._module.reshard()
        return super().lightning_module_state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state, in the first process, under the numbers that an optimiser of one process gives it.

        (Those go by its groups of parameters; Lightning's go by the module.)
        """
        self._module.reshard()  # whose optimiser knows the shares alone
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        state: Any = get_optimizer_state_dict(self._module, inner, options=WHOLE)
        if not state:
            return {}
        names = itertools.chain.from_iterable(group["params"] for group in state["param_groups"])
        return _renamed(state, {name: number for number, name in enumerate(names)})

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Before: else loaders are made before it is known where in an epoch to go on."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """By `load_optimizer_state_dict`."""
        return True

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, written by however many processes and by whatever strategy."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """All weights, or where the module is sharded already, this process's share."""
        if isinstance(self.lightning_module, FSDPModule):
            set_model_state_dict(self._module, checkpoint["state_dict"], options=WHOLE)
        else:
            self._module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """This process's share of a state that numbers parameters as an optimiser of one process does."""
        name_of = {parameter: name for name, parameter in self._module.named_parameters()}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups)
            named = _renamed(state, {number: name_of[p] for number, p in enumerate(parameters)})
            set_optimizer_state_dict(self._module, optimizer, named, options=WHOLE)

    @property
    def _module(self) -> Any:
        return self.lightning_module


def _renamed(state: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """An optimiser's state with other names of its parameters."""
    groups = [{**group, "params": [names[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[name]: own for name, own in state["state"].items()}, "param_groups": groups}


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Gather a module's weights, where they are sharded, outside of its steps; all processes must take part."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()
