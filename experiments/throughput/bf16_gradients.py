"""Does the CPU compute the gradients of a bfloat16 convolution right? The same step, again and again.

    python experiments/throughput/bf16_gradients.py

A 3³ convolution from 64 to 64 channels as in the encoder's last stage, two volumes, autocast to bfloat16. Compared with
the weight gradient in float64, computed with the input, weight and output gradient rounded as bfloat16 rounds them.
"""

import torch
from torch import nn

N = 200


def main():
    torch.manual_seed(0)
    conv = nn.Conv3d(64, 64, 3, padding=1, bias=False)
    exact = nn.Conv3d(64, 64, 3, padding=1, bias=False, dtype=torch.float64)
    exact.weight.data.copy_(conv.weight.bfloat16())
    print("| feature map | no number | wrong by more than 10 % | of |\n|---|---|---|---|")
    for side in (8, 4, 3, 2, 1):
        volume = torch.randn(2, 64, side, side, side).bfloat16()
        upstream = torch.randn(2, 64, side, side, side).bfloat16()
        exact.zero_grad()
        exact(volume.double()).backward(upstream.double())
        no_number = wrong = 0
        for _ in range(N):
            rubbish = [torch.full((n,), torch.nan) for n in (1_000, 10_000, 100_000)]
            del rubbish  # what an operator finds in memory that it doesn't fill
            conv.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = conv(volume)
            output.backward(upstream)
            error = (conv.weight.grad - exact.weight.grad).norm() / exact.weight.grad.norm()
            no_number += int(not torch.isfinite(error))
            wrong += int(torch.isfinite(error) and error > 0.1)
        print(f"| {side}×{side}×{side} | {no_number} | {wrong} | {N} |")


if __name__ == "__main__":
    main()
