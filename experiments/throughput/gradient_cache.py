"""Time and memory a pair, direct and gradient-cached, no views: python experiments/throughput/gradient_cache.py [cuda]

On the CPU a quarter of the ResNet-18's width at 2 mm; on a GPU all of it at 150×192×192 in bfloat16.
"""

import sys

import pandas as pd
import torch

from neuro_ssl.benchmarking.step import measure_step

if __name__ == "__main__":
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    large = {"shape_zyx": (150, 192, 192), "width": 64, "autocast": True} if device.type == "cuda" else {}
    table = pd.DataFrame(measure_step(device, **large))
    table["megabytes"] = table.pop("bytes") / 1e6
    print(table.round(4).to_string(index=False))
