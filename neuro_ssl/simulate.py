"""`python -m neuro_ssl.simulate`: a simulated cohort with planted effects, written as a BIDS dataset."""

from neuro_ssl.commands import entry_point
from neuro_ssl.config import build, check_components, plain
from neuro_ssl.schemas import SimulateConfig


@entry_point("simulate")
def main(cfg: SimulateConfig) -> None:
    """Write the cohort, or what is missing of it."""
    from neuro_ssl.simulation import simulate_cohort

    check_components(cfg, {"effects": ()})
    arguments = {name: value for name, value in plain(cfg).items() if name not in ("debug", "data_dir")}
    simulate_cohort(**arguments | {"effects": build(arguments["effects"])})


if __name__ == "__main__":
    main()
