"""`python -m neuro_ssl.quality`: which scans of a cohort a person should look at, and which are left out."""

from neuro_ssl.commands import entry_point
from neuro_ssl.config import check_components, plain
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import QualityConfig


@entry_point("quality")
def main(cfg: QualityConfig) -> None:
    """Write `quality.csv` and `quality.html` into the store's folder; on demand exclude what is flagged."""
    check_components(cfg, {"dataset": ()})
    if cfg.n_jobs < 1:
        raise InputError(f"n_jobs must be at least 1, got {cfg.n_jobs}")

    from hydra.utils import instantiate

    from neuro_ssl.data.store import VolumeStore
    from neuro_ssl.reporting.quality.store import check_quality, exclude_flagged

    dataset = instantiate(plain(cfg)["dataset"], _convert_="all")
    quality = check_quality(VolumeStore.find(dataset.store_dir, cfg.grid), cfg.n_jobs)
    print(quality)
    print(f"page: {quality.store.path / 'quality.html'}")
    if cfg.exclude_flagged:
        n_new = exclude_flagged(quality)
        print(
            f"{n_new} scans were added to {dataset.store_dir / 'exclude.csv'}; delete a line to take its scan in again"
        )


if __name__ == "__main__":
    main()
