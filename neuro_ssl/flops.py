"""How much arithmetic training an encoder takes, and how much a GPU could do at most."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Peak of dense matrix products in bfloat16 and float16, summed in float32, TFLOP/s, by the driver's name of the card;
# from NVIDIA's data sheets, which often print the double, for sparse matrices. TF32 has half of it on all of them.
# (Lightning's table mixes dense and sparse ones: 2000 for an H200, under a name that no H200 has.)
PEAK_TFLOPS = {
    "NVIDIA B200": 2250,
    "NVIDIA H200": 989,
    "NVIDIA H200 NVL": 835,
    "NVIDIA H100 80GB HBM3": 989,  # SXM
    "NVIDIA H100 NVL": 835,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA L40S": 362,
    "NVIDIA L40": 181,
    "NVIDIA L4": 121,
    "NVIDIA A40": 150,
    "NVIDIA A10": 125,
    "NVIDIA RTX A6000": 155,
    "NVIDIA GeForce RTX 4090": 165,
    "NVIDIA GeForce RTX 3090": 71,
}


def training_flops(encoder: nn.Module, shape: Sequence[int]) -> int:
    """Floating-point operations of forward and backward of one volume, multiplication and addition counted as two.

    Those of convolutions and matrix products, which are next to all; counted, not run: on tensors without content. What
    an encoder computes twice to save memory (its `checkpoint_stages`) counts once.

    Args:
        encoder: volume (batch, 1, z, y, x) → features.
        shape: of a volume, (z, y, x).
    """
    # A copy without content: deepcopy takes for each tensor what the memo says that it has copied it to already.
    memo: dict[int, Tensor] = {id(b): b.to("meta") for b in encoder.buffers()}
    for p in encoder.parameters():
        memo[id(p)] = nn.Parameter(
            torch.empty(p.shape, device="meta"), requires_grad=p.requires_grad
        )  # also of a share
    hollow: Any = copy.deepcopy(encoder, memo).eval()
    if hasattr(hollow, "checkpoint_stages"):
        hollow.checkpoint_stages = 0
    assert all(t.is_meta for t in itertools.chain(hollow.parameters(), hollow.buffers()))
    with FlopCounterMode(display=False) as counter, torch.enable_grad(), torch.autocast("cpu", enabled=False):
        features: Tensor = hollow(torch.empty(1, 1, *shape, device="meta"))
        if features.requires_grad:  # a frozen encoder has no backward
            features.sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Floating-point operations a second that a device could do at most; None where that is not known.

    Args:
        device: where the encoder is computed.
        precision: of Lightning's trainer, such as `bf16-mixed`. `32-true` is TF32, which convolutions use by default.
    """
    if device.type != "cuda":
        return None
    half = PEAK_TFLOPS.get(torch.cuda.get_device_name(device))
    share = {"bf16": 1.0, "16": 1.0, "32": 0.5}.get(precision.partition("-")[0])
    return None if half is None or share is None else half * share * 1e12
