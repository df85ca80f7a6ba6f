"""`python -m neuro_ssl.benchmark`: what pretraining costs on this machine, part by part, beside the paper's way."""

import functools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from neuro_ssl.commands import entry_point
from neuro_ssl.config import build, check_components, plain
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import BenchmarkConfig

if TYPE_CHECKING:
    from torch import nn

    from neuro_ssl.benchmarking.measurement import Measurement

PARTS = ("loader", "views", "loss", "step", "end_to_end")


@entry_point("benchmark")
def main(cfg: BenchmarkConfig) -> None:
    """Make what is read, measure, write the table."""
    check_components(cfg, {"encoder": ()})
    check_values(cfg)

    import torch

    from neuro_ssl.benchmarking import table
    from neuro_ssl.environment import environment

    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: torch finds no GPU here; device=cpu measures without one")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    step_grid = cfg.step_grid or (cfg.grid if device == "cuda" else "8mm")
    settings = {**plain(cfg), "device": device, "step_grid": step_grid}
    with TemporaryDirectory(prefix="neuro_ssl_benchmark_") as folder:
        rows = measure_parts(cfg, settings, Path(folder))
    where = environment()
    head = "a simulated head" if cfg.image is None else "a head given"
    title = f"{table.machine(where, torch.get_num_threads())}; {head}, grid {cfg.grid}, steps on {step_grid}, {device}"
    output = Path(cfg.output)
    table.write(rows, where, settings, title, output)
    print(title)
    print(table.text(rows))
    print("\n".join(table.ratios(rows)))
    print(f"written: {output / 'benchmark.md'}, {output / 'benchmark.json'}")


def check_values(cfg: BenchmarkConfig) -> None:
    """Refuse values out of their range, before anything is measured."""
    if unknown := [part for part in cfg.parts if part not in PARTS]:
        raise InputError(f"parts: {unknown[0]!r} is none of {', '.join(PARTS)}")
    if cfg.device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {cfg.device!r}")
    for key in ("batch_size", "micro_batch_size", "n_steps"):
        if cfg[key] < 1:  # type: ignore[index]
            raise InputError(f"{key} must be at least 1, got {cfg[key]}")  # type: ignore[index]
    if not all(len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size) for size in plain(cfg.loss_sizes)):
        raise InputError(f"loss_sizes must be pairs and widths such as [[1024, 64]], got {plain(cfg.loss_sizes)}")
    for key, least in {"n_scans": 2, "num_workers": 0}.items():
        if cfg[key] < least:  # type: ignore[index]
            raise InputError(f"{key} must be at least {least}, got {cfg[key]}")  # type: ignore[index]


def measure_parts(cfg: BenchmarkConfig, settings: dict[str, Any], folder: Path) -> "list[Measurement]":
    """The parts that are asked for, in their order; `settings` with what `auto` means."""
    from neuro_ssl.benchmarking.end_to_end import end_to_end
    from neuro_ssl.benchmarking.inputs import loader, views
    from neuro_ssl.benchmarking.loss import loss
    from neuro_ssl.benchmarking.material import Material
    from neuro_ssl.benchmarking.step import step
    from neuro_ssl.console import quiet_libraries
    from neuro_ssl.encoders import Encoder
    from neuro_ssl.grid import Grid
    from neuro_ssl.optim import Optimizer
    from neuro_ssl.tasks.simclr import SimCLR
    from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025
    from neuro_ssl.views.standard import Standard

    quiet_libraries()
    device, shape = settings["device"], Grid.named(settings["step_grid"]).shape
    Grid.named(cfg.grid)  # refuses one that is none, before time is spent
    encoder = build(settings["encoder"])
    if isinstance(encoder, Encoder):
        encoder.check_grid(shape)
    image, mask = find_head(cfg, folder)
    materials: dict[str, Material] = {}

    def material(grid: str) -> Material:
        if grid not in materials:
            print(f"the head, {cfg.n_scans} times on {grid} …", flush=True)
            materials[grid] = Material.make(folder / grid, image, mask, Grid.named(grid), cfg.n_scans)
        return materials[grid]

    rows: list[Measurement] = []
    for part in PARTS:
        if part not in cfg.parts:
            continue
        print(f"{part} …", flush=True)
        match part:
            case "loader":
                rows += loader(material(cfg.grid), cfg.min_seconds)
            case "views":
                families = {"kaczmarek2025": Kaczmarek2025(), "standard": Standard()}
                rows += views(material(cfg.grid), families, device, cfg.batch_size, cfg.min_seconds)
            case "loss":
                rows += loss(device, cfg.min_seconds, [(pairs, width) for pairs, width in settings["loss_sizes"]])
            case "step":
                rows += step(
                    encoders(settings["encoder"]),
                    shape,
                    device,
                    pairs=cfg.batch_size,
                    micro_batch_size=cfg.micro_batch_size,
                    repetitions=cfg.n_steps,
                    autocast=device == "cuda",
                )
            case "end_to_end":
                ours, theirs = (build(settings["encoder"]) for _ in range(2))
                rows += end_to_end(
                    material(settings["step_grid"]),
                    SimCLR(ours, Kaczmarek2025(), Optimizer(), seed=0),
                    theirs,
                    device=device,
                    precision="bf16-mixed" if device == "cuda" else "32-true",
                    batch_size=cfg.batch_size,
                    num_workers=cfg.num_workers,
                    n_steps=cfg.n_steps,
                )
    return rows


def encoders(node: dict[str, Any]) -> "dict[str, Callable[[], nn.Module]]":
    """What makes the encoder of the step: with both strides of the stem, where it has one."""
    name = node["_target_"].rpartition(".")[2]
    if "stem_stride" not in node:
        return {name: functools.partial(build, node)}
    return {f"{name}, stem stride {s}": functools.partial(build, {**node, "stem_stride": s}) for s in (1, 2)}


def find_head(cfg: BenchmarkConfig, folder: Path) -> tuple[Path, Path | None]:
    """The head to work with, a simulated one if none is given, and its mask."""
    if cfg.mask is not None and cfg.image is None:
        raise InputError("mask is given without an image")
    for key, file in {"image": cfg.image, "mask": cfg.mask}.items():
        if file is not None and not Path(file).is_file():
            raise InputError(f"{key}={file}: there is no such file")
    if cfg.image is not None:
        return Path(cfg.image), None if cfg.mask is None else Path(cfg.mask)
    from neuro_ssl.simulation import simulate_cohort

    root = folder / "simulated"
    simulate_cohort(root, n_subjects=1, spacing_mm=1.0, n_jobs=1)
    image = next(root.glob("sub-*/*/anat/*_T1w.nii.gz"))
    return image, next((root / "derivatives").rglob(f"{image.name.removesuffix('_T1w.nii.gz')}*_mask.nii.gz"))


if __name__ == "__main__":
    main()
