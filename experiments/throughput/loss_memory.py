"""Memory and time of NT-Xent beside the broadcast form: python experiments/throughput/loss_memory.py [cuda]"""

import sys

import pandas as pd
import torch

from neuro_ssl.benchmarking.loss import measure_loss

if __name__ == "__main__":
    table = pd.DataFrame(measure_loss(torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")))
    table["megabytes"] = table.pop("bytes") / 1e6
    print(table.round(3).to_string(index=False))
