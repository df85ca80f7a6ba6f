"""How often is resampled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """How intervals are computed.

    Attributes:
        seed: of resampling.
        n_resamples: of the bootstrap.
        n_permutations: of permutation tests.
    """

    seed: int = 0
    n_resamples: int = 2000
    n_permutations: int = 10_000
