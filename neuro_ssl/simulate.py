"""`python -m neuro_ssl.simulate`: a simulated cohort with planted effects, written as a BIDS dataset."""

from neuro_ssl.config import entry_point, plain
from neuro_ssl.schemas import SimulateConfig


@entry_point("simulate")
def main(cfg: SimulateConfig) -> None:
    """Write the cohort, or what is missing of it."""
    from neuro_ssl.simulation import simulate_cohort

    arguments = plain(cfg)
    simulate_cohort(**{name: value for name, value in arguments.items() if name not in ("debug", "data_dir")})


if __name__ == "__main__":
    main()
