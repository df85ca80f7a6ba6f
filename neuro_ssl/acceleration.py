"""How an encoder is computed, which changes its speed but not what it computes (but for rounding)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro_ssl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """Speeds that depend on the machine; what each is worth: experiments/throughput.

    A run may go on with others than it was begun with: its checkpoints hold the same tensors under the same names.

    Args:
        compile: fuse the encoder's `forward` by torch.compile. Another batch size is compiled once more.
        backend: of torch.compile, see `torch.compiler.list_backends`.
        channels_last: lay kernels, and so all activations, out with the channels last, as tensor cores want them.
    """

    compile: bool = False
    backend: str = "inductor"
    channels_last: bool = False

    def __post_init__(self) -> None:
        known = torch.compiler.list_backends()
        # (The debugging backends are not in that list.)
        if self.backend not in (*known, "eager", "aot_eager"):
            raise InputError(
                f"acceleration.backend={self.backend}: torch.compile knows {', '.join(known)}, eager, aot_eager"
            )

    def apply(self, encoder: nn.Module, device: torch.device) -> None:
        """Change how this encoder is computed, in place; its parameters' names and values stay.

        Args:
            encoder: any module.
            device: that it will be computed on.

        Raises:
            InputError: the backend cannot compile here, such as without a C++ compiler.
        """
        if self.channels_last:  # a convolution follows its kernel: a volume of one channel has no order to change
            encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if self.compile:
            self._try(device)
            encoder.compile(backend=self.backend)  # in place: wrapped in another module, parameters had other names

    def _try(self, device: torch.device) -> None:
        """Compile next to nothing, rather than fail after the first batch is loaded."""

        def probe(x: Tensor) -> Tensor:
            return x.sin() + x.cos()

        try:
            torch.compile(probe, backend=self.backend)(torch.ones(64, device=device))
        except Exception as error:  # whatever backend, compiler or driver make of it
            raise InputError(
                f"acceleration.compile=true: {self.backend} cannot compile for {device} here "
                f"({_reason(error)}); install what it lacks (inductor: a C++ compiler for the CPU, Triton for "
                "GPUs), or leave it out"
            ) from error


def _reason(error: Exception) -> str:
    """What went wrong, without torch's advice for its developers."""
    lines = [line.strip() for line in str(error).partition("Set TORCHDYNAMO_VERBOSE")[0].splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
