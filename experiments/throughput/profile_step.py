"""Where does the time of a SimCLR step go? Operators by their own time, for views and for encoder, head and loss.

    python experiments/throughput/profile_step.py HEAD.nii.gz [--grid 2mm] [--pairs 2] [--width 64] [--device cpu]

HEAD is a T1w image; deepbet finds its brain. On the CPU one thread, as in a loading process.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from neuro_ssl.benchmarking.material import Material
from neuro_ssl.encoders.resnet3d import ResNet3D
from neuro_ssl.grid import Grid
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025
from neuro_ssl.views.standard import Standard

SHOWN = 8
STEPS = 3


def show(name, events, device):
    """The operators that take most, as a table."""
    kind = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    times = {event.key: getattr(event, kind) for event in events if not event.key.startswith(("#", "Profiler"))}
    total = sum(times.values())
    print(f"\n{name}: {total / STEPS / 1e6:.3f} s a step\n\n| operator | share |\n|---|---|")
    for key, spent in sorted(times.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"| `{key}` | {100 * spent / total:.1f} % |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", type=Path)
    parser.add_argument("--grid", default="2mm")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        store = Material.make(Path(folder), arguments.head, None, Grid.named(arguments.grid), 2).store
        volume = torch.from_numpy(store.read(store.manifest["volume"][0]))
    number = torch.arange(arguments.pairs, device=device)
    batch = {"volume": volume.expand(arguments.pairs, 1, *volume.shape).to(device), "shares": (arguments.pairs,)}
    batch |= {"scan": number, "subject": number, "epoch": 0 * number}
    activities = [ProfilerActivity.CUDA] if device == "cuda" else [ProfilerActivity.CPU]

    for views in (Kaczmarek2025(), Standard()):
        task = SimCLR(ResNet3D(width=arguments.width), views, Optimizer(), 0).to(device)
        made = [task.make_views(batch | {"draw": number + i * arguments.pairs}) for i in range(STEPS + 1)]
        with profile(activities=activities) as profiler:
            for i in range(STEPS):
                with record_function("# views"):
                    task.make_views(batch | {"draw": number + i * arguments.pairs})
        show(f"two views, {type(views).__name__}", profiler.key_averages(), device)

    ready = iter(made)
    task.make_views = lambda batch: next(ready)
    optimizer = torch.optim.AdamW(task.parameters(), fused=True)

    def step():
        loss, _, _ = task.contrast(batch | {"draw": number})
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with profile(activities=activities) as profiler:
        for _ in range(STEPS):
            step()
    show("encoder, head, loss, optimiser", profiler.key_averages(), device)


if __name__ == "__main__":
    main()
