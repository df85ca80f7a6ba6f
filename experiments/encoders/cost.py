"""What each encoder costs on the paper's grid: features, parameters, operations, and memory for the backward pass.

    python experiments/encoders/cost.py

Counted on tensors without data, where shapes are known and nothing is computed: the same on every machine.
"""

from itertools import pairwise
from pathlib import Path

import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from neuro_ssl.config import CONF_DIR, build
from neuro_ssl.encoders import Encoder
from neuro_ssl.grid import Grid

SHAPE = (1, 1, *Grid.named("paper_1mm").shape)
ROWS = [
    *(("resnet10", {}), ("resnet18", {}), ("resnet18", {"stem_stride": 1}), ("resnet34", {}), ("resnet50", {})),
    *(("densenet121", {}), ("sfcn", {}), ("vit_tiny", {}), ("vit_small", {}), ("vit_base", {}), ("resenc_l", {})),
]


def forward_flops(encoder: Encoder) -> int:
    """Operations of one volume's forward pass; a multiplication with its addition is two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.empty(SHAPE))
    return counter.get_total_flops()


def kept_bytes(encoder: Encoder) -> int:
    """Bytes that one volume's forward pass in float32 keeps for the backward pass, parameters left out."""
    kept: dict[int, torch.UntypedStorage] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        features = encoder(torch.empty(SHAPE))
    del features
    return sum(storage.nbytes() for storage in kept.values())


def main() -> None:
    """Print the table."""
    print("| encoder | features | parameters (M) | forward (TFLOP) | memory (GB) | with 1 stage | 2 | 3 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, options in ROWS:
        parameters = yaml.safe_load((Path(CONF_DIR) / "encoder" / f"{name}.yaml").read_text()) | options
        with torch.device("meta"):
            encoder = build(parameters).train()
            teraflops = forward_flops(encoder) / 1e12
        millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
        with FakeTensorMode():  # which, unlike the meta device, takes the fused attention that a processor takes
            kept = [kept_bytes(build(parameters | {"checkpoint_stages": n}).train()) / 1e9 for n in range(4)]
        # The backward pass meets either all that was kept, or at its end the stages computed again, one at a time.
        stages = [before - after for before, after in pairwise(kept)]
        peaks = [max([kept[n], *stages[:n]]) for n in range(4)]
        label = ", ".join([f"`{name}`", *(f"`{key}={value}`" for key, value in options.items())])
        memory = " | ".join(f"{gigabytes:.2f}" for gigabytes in peaks)
        print(f"| {label} | {encoder.embed_dim} | {millions:.1f} | {teraflops:.3f} | {memory} |")


if __name__ == "__main__":
    main()
