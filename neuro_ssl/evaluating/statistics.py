"""How often is resampled."""

from dataclasses import dataclass

from neuro_ssl.errors import InputError


@dataclass(frozen=True)
class Statistics:
    """How intervals are computed.

    Attributes:
        seed: of resampling.
        n_resamples: of the bootstrap.
        n_permutations: of permutation tests.

    Raises:
        InputError: too few for an interval of 95 %, or a negative seed.
    """

    seed: int = 0
    n_resamples: int = 2000
    n_permutations: int = 10_000

    def __post_init__(self) -> None:
        for name, value, least in (
            ("seed", self.seed, 0),
            ("n_resamples", self.n_resamples, 100),
            ("n_permutations", self.n_permutations, 100),
        ):
            if value < least:
                raise InputError(f"statistics.{name} must be at least {least}, got {value}")
