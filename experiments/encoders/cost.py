"""What each encoder costs on the paper's grid: features, parameters, operations, and memory of a training step.

    python experiments/encoders/cost.py

Counted on tensors without data, where shapes are known and nothing is computed: the same on every machine.
"""

import weakref
from pathlib import Path
from typing import Any

import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from neuro_ssl.config import build
from neuro_ssl.encoders import Encoder
from neuro_ssl.files import CONF_DIR
from neuro_ssl.grid import Grid

SHAPE = (1, 1, *Grid.named("paper_1mm").shape)
ROWS = [
    *(("resnet10", {}), ("resnet18", {}), ("resnet18", {"stem_stride": 1}), ("resnet34", {}), ("resnet50", {})),
    *(("densenet121", {}), ("sfcn", {}), ("vit_tiny", {}), ("vit_small", {}), ("vit_base", {}), ("resenc_l", {})),
]


class Peak(TorchDispatchMode):
    """Follows the bytes of all tensors that operations make, while they live; their own workspaces are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = self.highest = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.live:
                    self.live[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.died, storage._cdata)
        self.highest = max(self.highest, self.now)
        return result

    def died(self, storage: int) -> None:
        """A storage was given back."""
        self.now -= self.live.pop(storage)


def forward_flops(parameters: dict[str, Any]) -> int:
    """Operations of one volume's forward pass; a multiplication with its addition is two."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(parameters)(torch.empty(SHAPE))
    return counter.get_total_flops()


def step_bytes(encoder: Encoder) -> int:
    """The most that one volume's forward and backward pass hold at once, in float32, parameters left out."""
    volume = torch.empty(SHAPE)
    for parameter in encoder.parameters():
        parameter.grad = torch.empty_like(parameter)
    with Peak() as peak:
        encoder(volume).sum().backward()
    return peak.highest


def main() -> None:
    """Print the table."""
    print("| encoder | features | parameters (M) | forward (TFLOP) | memory (GB) | 1 stage twice | 2 | 3 | all |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, options in ROWS:
        parameters = yaml.safe_load((Path(CONF_DIR) / "encoder" / f"{name}.yaml").read_text()) | options
        label = ", ".join([f"`{name}`", *(f"`{key}={value}`" for key, value in options.items())])
        with FakeTensorMode():  # which, unlike the meta device, takes the fused attention that a processor takes
            encoder = build(parameters).train()
            gigabytes = []
            for n_stages in (0, 1, 2, 3, len(encoder.stages())):
                encoder.recompute_first(n_stages)
                gigabytes.append(f"{step_bytes(encoder) / 1e9:.2f}")
        millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
        teraflops = forward_flops(parameters) / 1e12
        print(f"| {label} | {encoder.embed_dim} | {millions:.1f} | {teraflops:.3f} | {' | '.join(gigabytes)} |")


if __name__ == "__main__":
    main()
