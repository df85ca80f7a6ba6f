"""The encoder as a graph for use without this package: ONNX and `torch.export`, each compared with PyTorch.

The graph takes a normalised volume (batch, 1, z, y, x) of the weights' grid, in float32, and any batch size.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro_ssl.errors import InputError

TOLERANCE = 1e-4  # of the largest feature, and at least 1e-4: sums in another order differ in the last digits
BATCH = 2  # to trace with: of 1, the exporter would make a constant
Features = npt.NDArray[np.float32]


def write_torch_export(encoder: nn.Module, shape: tuple[int, int, int], file: Path) -> None:
    """`torch.export` as a .pt2 file, which `torch.export.load(file).module()` runs.

    Args:
        encoder: in evaluation mode, on the CPU.
        shape: of its volumes, along (z, y, x).
        file: to be written.

    Raises:
        InputError: what was written gives other features than the encoder.
    """
    program = torch.export.export(encoder, (_volume(shape),), dynamic_shapes=_any_batch())
    torch.export.save(program, file)
    written = torch.export.load(file).module()
    _compare(encoder, lambda volume: written(volume).numpy(), shape, file)


def write_onnx(encoder: nn.Module, shape: tuple[int, int, int], file: Path) -> None:
    """ONNX in one file, with the input `volume` and the output `features`; arguments as `write_torch_export`.

    Raises:
        InputError: the packages are missing, or what was written gives other features than the encoder.
    """
    check_onnx()
    import onnxruntime

    # It tells about operators of torchvision, which no encoder has.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    torch.onnx.export(
        encoder,
        (_volume(shape),),
        file,
        dynamo=True,
        dynamic_shapes=_any_batch(),
        input_names=["volume"],
        output_names=["features"],
        external_data=False,  # the largest encoder has 0.36 GB, and one file holds 2
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    _compare(encoder, lambda volume: session.run(None, {"volume": volume.numpy()})[0], shape, file)


def check_onnx() -> None:
    """Refuse to begin what cannot end.

    Raises:
        InputError: a package is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"--onnx: {error}: pip install 'neuro_ssl[onnx]'") from error


def _volume(shape: tuple[int, int, int], batch: int = BATCH) -> Tensor:
    return torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(batch))


def _any_batch() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch")},)


def _compare(encoder: nn.Module, graph: Callable[[Tensor], Features], shape: tuple[int, int, int], file: Path) -> None:
    """On other volumes than it was traced with, and another number of them."""
    volume = _volume(shape, batch=1)
    with torch.inference_mode():
        expected = encoder(volume).numpy()
        found = graph(volume)
    largest = max(1.0, float(np.abs(expected).max()))
    error = float(np.abs(found - expected).max()) / largest if found.shape == expected.shape else np.inf
    if not error <= TOLERANCE:  # so that nan is refused too
        raise InputError(
            f"{file.name} is not exported: its features differ from the encoder's by {error:.1e} of the largest, and "
            f"{TOLERANCE:g} is allowed; leave this graph out"
        )
