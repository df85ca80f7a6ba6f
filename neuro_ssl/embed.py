"""`python -m neuro_ssl.embed`: the features of every scan of a cohort, with its labels, as one table."""

from pathlib import Path

from neuro_ssl.commands import entry_point
from neuro_ssl.config import PREDICTING, build, check_components, plain
from neuro_ssl.errors import InputError
from neuro_ssl.schemas import EmbedConfig


@entry_point("embed")
def main(cfg: EmbedConfig) -> None:
    """Write the file, go on with one that was interrupted, or say that it is there."""
    check_components(cfg, {"dataset": (), "trainer": tuple(PREDICTING)})
    if not cfg.weights:
        raise InputError("weights: give a run directory, an imported folder or a published file")

    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.console import quiet_libraries
    from neuro_ssl.embedding import embed_store
    from neuro_ssl.trainer import build_trainer

    quiet_libraries()
    config = plain(cfg)
    dataset = build(config["dataset"])
    if dataset.transform is not None:
        raise InputError("features are those of the scans as they are: leave dataset.transform out")
    weights = Weights.load(cfg.weights)
    store = dataset.open(cfg.grid)
    trainer = build_trainer(config["trainer"], **PREDICTING)
    options = {key: config[key] for key in ("layer", "pooling", "batch_size", "num_workers", "part_size")}
    new = embed_store(weights, store, Path(cfg.output), trainer, **options)
    if trainer.is_global_zero:
        print(f"{'features' if new else 'already there'}: {cfg.output}, {len(store.manifest)} scans of {store.cohort}")


if __name__ == "__main__":
    main()
