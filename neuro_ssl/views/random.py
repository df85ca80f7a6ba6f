"""Counter-based random numbers: each a pure function of a key and a counter, with no hidden state.

A generator's stream depends on who drew before: on workers, ranks, restarts. Here the n-th number of a key is
computed by hashing (key, n), so that it is the same on every device and in every order (the idea of Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"; here with the 32-bit mixer `lowbias32` of Wellons 2018, whose
bias is far below what an augmentation could show). Words are int32, whose products wrap around as the mixer wants.
"""

import math
import zlib

import torch
from torch import Tensor


def _word(x: int) -> int:
    """The int32 with the low 32 bits of x."""
    return (x & 0xFFFFFFFF) - ((x & 0x80000000) << 1)


def _mix(x: Tensor) -> Tensor:
    """`lowbias32`; shifts of int32 carry the sign along, which the masks take off again."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x *= 0x7FEB352D
    x ^= (x >> 15) & 0x1FFFF
    x *= _word(0x846CA68B)
    x ^= (x >> 16) & 0xFFFF
    return x


def view_keys(seed: int, epoch: Tensor, draw: Tensor, view: int) -> Tensor:
    """Keys of one view of each sample of a batch.

    Args:
        seed: the run's seed.
        epoch: (batch,) integers.
        draw: (batch,) integers, the sample's place in the epoch's order. A scan drawn twice has two.
        view: 0 or 1 for the two views of contrastive learning.

    Returns:
        (batch, 2) int32, two words a sample.
    """
    epoch, draw = epoch.to(torch.int32), draw.to(torch.int32)
    words = []
    for start in (0x243F6A88, 0x85A308D3):  # two independent chains, started from the digits of π
        h = _mix(torch.full_like(draw, _word(seed ^ start)))
        for part in (epoch, draw, view):
            h = _mix(h * 31 + part)
        words.append(h)
    return torch.stack(words, dim=1)


def uniform(keys_B2: Tensor, stream: str, *shape: int, counter: Tensor | None = None) -> Tensor:
    """Uniform numbers in [0, 1), `(batch, *shape)` in float32.

    Args:
        keys_B2: one key a sample.
        stream: a name; another one gives independent numbers.
        shape: how many numbers a sample.
        counter: which of the stream's numbers, else the first.
    """
    name = zlib.crc32(stream.encode())
    first_B1 = _mix(keys_B2[:, :1] ^ _word(name))
    second_B1 = _mix(keys_B2[:, 1:] ^ _word(name * 0x9E3779B1))
    if counter is None:
        counter = torch.arange(math.prod(shape), device=keys_B2.device)
    counter_1n = counter.to(torch.int32).flatten()[None]
    bits_Bn = _mix(_mix(counter_1n ^ first_B1) + second_B1)
    return ((bits_Bn >> 8) & 0xFFFFFF).to(torch.float32).mul_(2**-24).view(len(keys_B2), *shape)


def normal_pair(keys_B2: Tensor, stream: str, *shape: int, counter: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two independent standard normal numbers, `(batch, *shape)` each in float32, by the Box–Muller transform."""
    radius = torch.sqrt(-2 * torch.log1p(-uniform(keys_B2, stream + "/radius", *shape, counter=counter)))
    angle = uniform(keys_B2, stream + "/angle", *shape, counter=counter) * (2 * math.pi)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def between(keys_B2: Tensor, stream: str, low: float, high: float) -> Tensor:
    """One uniform number in [low, high) a sample, (batch,)."""
    return low + (high - low) * uniform(keys_B2, stream, 1)[:, 0]


def happens(keys_B2: Tensor, stream: str, probability: float) -> Tensor:
    """(batch,) booleans, each true with the given probability."""
    return uniform(keys_B2, stream + "/happens", 1)[:, 0] < probability
