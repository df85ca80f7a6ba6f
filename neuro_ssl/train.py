"""`python -m neuro_ssl.train`: compose, check, build, fit, and for downstream tasks test once.

Everything that can be known to be wrong is found before training starts; nothing is skipped in silence.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_ssl.config import TrainConfig, build, check_components, choices, entry_point, is_sweep, overridden, plain
from neuro_ssl.errors import InputError

if TYPE_CHECKING:
    import lightning.pytorch as L

    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.data.store import VolumeStore

# Trainer arguments that are not for users to choose.
TRAINER = {
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,  # its numbers would enter the history
    "use_distributed_sampler": False,  # ours shares out global batches; Lightning's would pad the last one
}
# What the code passes when it builds each component; every other parameter comes from the configuration.
SUPPLIED = {
    "dataset": (),
    "encoder": (),
    "views": (),
    "optimizer": (),
    "task": ("encoder", "views", "optimizer", "seed", "frozen", "target_mean", "target_sd"),
    "trainer": ("callbacks", "logger", "default_root_dir", *TRAINER),
    "logger": ("directory", "name"),
}
# What a run's name doesn't depend on: where and how it runs. Data and weights enter by their content instead.
ELSEWHERE = {"debug", "name", "data_dir", "runs_dir", "grid", "num_workers", "logger", "dataset", "weights"}
ELSEWHERE_TRAINER = {"accelerator", "devices", "num_nodes", "strategy"}


@entry_point("train")
def main(cfg: TrainConfig) -> None:
    """Run one training, or show the results of one that is finished."""
    check_components(cfg, SUPPLIED)

    import lightning.pytorch as L
    from hydra.utils import get_class
    from lightning.pytorch.callbacks import ModelCheckpoint

    from neuro_ssl.callbacks import Progress, ViewExamples
    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.console import quiet_libraries, scores_table
    from neuro_ssl.data.datamodule import SSLDataModule, SupervisedDataModule
    from neuro_ssl.data.store import VolumeStore
    from neuro_ssl.run import RunDirectory
    from neuro_ssl.tasks.results import as_metrics, downstream_results, prediction_table
    from neuro_ssl.tracking import finish_tracking

    quiet_libraries()
    config = plain(cfg)
    store = VolumeStore.find(build(config["dataset"]).store_dir, cfg.grid)
    weights = Weights.load(cfg.weights) if cfg.weights else None
    if weights:
        if overridden("encoder"):
            raise InputError(f"weights={cfg.weights} bring their own encoder: leave encoder settings out")
        weights.check_data(store.summary)
        config["encoder"] = weights.encoder

    run = RunDirectory(Path(cfg.runs_dir) / name_of_run(config, store, weights))
    if run.finished:
        print(f"already finished: {run.path}")
        if run.results:
            print(scores_table(run.results))
        return

    L.seed_everything(cfg.seed, verbose=False)
    encoder = build(config["encoder"])
    if weights:
        weights.into(encoder)
    pretraining = get_class(cfg.task._target_).stage == "pretraining"  # type: ignore[attr-defined]
    loading = {"batch_size": cfg.batch_size, "num_workers": cfg.num_workers, "seed": cfg.seed}
    parts = {
        "encoder": encoder,
        "views": build(config["views"]),
        "optimizer": build(config["optimizer"]),
        "seed": cfg.seed,
    }
    datamodule: SSLDataModule | SupervisedDataModule
    if pretraining:
        datamodule = SSLDataModule(store, **loading)
    else:
        datamodule = SupervisedDataModule(store, config["task"]["target"], config["task"]["classes"], **loading)
        mean, sd = datamodule.target_statistics
        parts |= {"frozen": cfg.frozen, "target_mean": mean, "target_sd": sd}
    task = build(config["task"], **parts)

    checkpoint = ModelCheckpoint(run.checkpoints, "best", **task.keep)
    callbacks = [checkpoint, Progress()]
    if pretraining:
        callbacks.append(ViewExamples(run.path))
    trainer = build(
        config["trainer"],
        callbacks=callbacks,
        logger=[build(node, directory=str(run.path), name=run.path.name) for node in config["logger"].values()],
        default_root_dir=run.path,
        **TRAINER,
    )

    refuse_sweep_over_devices(trainer)

    if trainer.is_global_zero:
        run.begin(record(cfg, task, store, weights), config)
        print(f"{run.path}\n  {datamodule}")
    for logger in trainer.loggers:
        logger.log_hyperparams(config)
    if cfg.frozen:
        task.cache_features(datamodule, trainer.strategy.root_device)
    trainer.fit(task, datamodule)
    if isinstance(datamodule, SupervisedDataModule):
        # The test split is opened here, once, with the weights that the validation split chose.
        outputs = {
            split: trainer.predict(task, datamodule.loader(split), ckpt_path=checkpoint.best_model_path)
            for split in ("val", "test")
        }
        table = prediction_table(datamodule, outputs)
        results = {**protocol(cfg), **downstream_results(task, datamodule, table)}
        for logger in trainer.loggers:
            logger.log_metrics(as_metrics(results), trainer.global_step)
        if trainer.is_global_zero:
            run.write_results(table, results)
            print(scores_table(results))
    finish_tracking()
    if trainer.is_global_zero:
        run.finish()
        print(f"finished: {run.path}")


def refuse_sweep_over_devices(trainer: "L.Trainer") -> None:
    """Lightning would start its further processes with this command line, and so the whole sweep once more in each."""
    if is_sweep() and type(trainer.strategy.launcher).__name__ == "_SubprocessScriptLauncher":
        raise InputError(
            f"a sweep (-m) can't use {trainer.num_devices} devices a run: set trainer.devices=1, or start the points "
            "one by one, or under torchrun or SLURM"
        )


def name_of_run(config: dict[str, Any], store: "VolumeStore", weights: "Weights | None") -> str:
    """Experiment, task, and a hash of what affects the result; the same for a sweep point and a single run."""
    from neuro_ssl.run import run_name

    identity = {key: value for key, value in config.items() if key not in ELSEWHERE}
    identity["trainer"] = {key: value for key, value in config["trainer"].items() if key not in ELSEWHERE_TRAINER}
    identity["data"] = store.identity
    identity["weights"] = weights.name if weights else None
    task, name = choices()["task"], config["name"]
    return run_name(name if task in name else f"{name}-{task}", identity)


def record(cfg: TrainConfig, task: Any, store: "VolumeStore", weights: "Weights | None") -> dict[str, Any]:
    """What `run.yaml` says about this run."""
    from neuro_ssl.run import command_line, environment

    return {
        "stage": task.stage,
        "task": choices()["task"],
        "command": command_line(),
        "seed": cfg.seed,
        "dataset": store.summary,
        "encoder": {
            "name": choices()["encoder"],
            "parameters_millions": round(sum(p.numel() for p in task.encoder.parameters()) / 1e6, 2),
        },
        "weights": {"name": weights.name, "path": str(weights.path)} if weights else None,
        "frozen": cfg.frozen,
        "epochs": cfg.trainer.max_epochs,
        "batch_size": cfg.batch_size,
        **environment(),
    }


def protocol(cfg: TrainConfig) -> dict[str, Any]:
    """How a downstream run came about: by its two switches, initial weights and frozen encoder."""
    trained = "finetune" if cfg.weights else "from_scratch"
    return {
        "task": choices()["task"],
        "protocol": "linear_probe" if cfg.frozen else trained,
        "initialisation": "pretrained" if cfg.weights else "untrained",
    }


if __name__ == "__main__":
    main()
