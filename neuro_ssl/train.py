"""`python -m neuro_ssl.train`: pretrain an encoder without labels, or train a task on one.

Compose, check, build, fit, and for downstream tasks test once. Everything that can be known to be wrong is found before
training starts; nothing is skipped in silence.
"""

from pathlib import Path
from typing import Any

from neuro_ssl.commands import entry_point
from neuro_ssl.config import TRAINING, build, check_components, check_train, choices, overridden, plain
from neuro_ssl.errors import InputError, Pruned
from neuro_ssl.faults import end_with_launcher, faults_told
from neuro_ssl.launching import sweep_point
from neuro_ssl.processes import say
from neuro_ssl.schemas import TrainConfig
from neuro_ssl.signals import stops_on_signals
from neuro_ssl.studies import open_trial
from neuro_ssl.sweeps import keeps_test_closed, show_table

# What the code passes when it builds each component; every other parameter comes from the configuration.
SUPPLIED = {
    **dict.fromkeys(("dataset", "split", "encoder", "views", "sampling", "optimizer", "acceleration"), ()),
    "task": ("encoder", "views", "optimizer", "seed", "micro_batch_size", "frozen", "target_mean", "target_sd"),
    "trainer": ("callbacks", "logger", "default_root_dir", *TRAINING),
    "logger": ("directory", "name", "images", "ids"),
}


@entry_point("train", after_sweep=show_table)
@stops_on_signals(more_to_come=sweep_point)
def main(cfg: TrainConfig) -> float | None:
    """Run one training, go on with one, or show one's results; for sweepers, return its best validation score."""
    check_components(cfg, SUPPLIED, optional=["views"])
    end_with_launcher()

    import lightning.pytorch as L
    from hydra.utils import get_class

    from neuro_ssl import callbacks
    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.console import quiet_libraries, scores_table
    from neuro_ssl.data.datamodule import SSLDataModule
    from neuro_ssl.data.leakage import check_leakage
    from neuro_ssl.data.protocols import divide
    from neuro_ssl.data.supervised import SupervisedDataModule
    from neuro_ssl.data.targets import fraction_label, read_targets
    from neuro_ssl.determinism import indeterminism_told
    from neuro_ssl.encoders import Encoder
    from neuro_ssl.memory import out_of_memory_told
    from neuro_ssl.run import RunDirectory, describe_run
    from neuro_ssl.run_names import run_name
    from neuro_ssl.tasks.gradient_cache import normalises_over_batch
    from neuro_ssl.tasks.results import evaluate
    from neuro_ssl.tracking import begin_tracking, tracked
    from neuro_ssl.trainer import build_loggers, build_trainer

    quiet_libraries()
    config = plain(cfg)
    dataset = build(config["dataset"])
    pretraining = get_class(cfg.task._target_).stage == "pretraining"  # type: ignore[attr-defined]
    check_train(cfg, pretraining)
    test_closed = keeps_test_closed(cfg.open_test, pretraining, cfg.objective)
    task_name = choices()["task"]
    targets = [] if pretraining else read_targets(task_name, config["task"])
    labels = None if pretraining else fraction_label(targets, cfg.label_fraction)
    store, data = divide(dataset.open(cfg.grid), build(config["split"]), cfg.label_fraction, labels, cfg.label_seed)
    weights = Weights.load(cfg.weights) if cfg.weights else None
    if weights:
        if overridden("encoder"):
            raise InputError(f"weights={cfg.weights} bring their own encoder: leave encoder settings out")
        weights.check_data(store.summary)
        config["encoder"] = weights.encoder
    begins_with, before = (weights.name, weights.seen) if weights else (None, None)
    leakage = check_leakage(store.manifest, cfg.weights, before, evaluates=not pretraining, allow=cfg.allow_leakage)

    L.seed_everything(cfg.seed, verbose=False)
    encoder = weights.build_encoder() if weights else build(config["encoder"])
    if isinstance(encoder, Encoder):
        encoder.check_grid(store.grid.shape)
    normalises = normalises_over_batch(encoder)
    named_after = config if normalises else config | {"micro_batch_size": None}
    name = cfg.rerun_of or run_name(task_name, named_after, store.identity, begins_with)
    run = RunDirectory(Path(cfg.runs_dir) / name)
    if point := sweep_point():
        point.note(run=run.path)
    if run.finished and (pretraining or run.results or test_closed):
        say(f"already finished: {run.path}")
        if scores := run.validation if test_closed else run.results:
            say(f"{scores_table(scores)}\n{leakage}")
        return run.validation_score(cfg.objective)

    # Data and task
    loading: dict[str, Any] = {"batch_size": cfg.batch_size, "num_workers": cfg.num_workers, "seed": cfg.seed}
    loading |= {"transform": dataset.transform, "sampling": build(config["sampling"])}
    parts = {name: build(config[name]) for name in ("views", "optimizer")} | {"encoder": encoder, "seed": cfg.seed}
    datamodule: SSLDataModule | SupervisedDataModule
    if pretraining:
        on_host, auto = cfg.micro_batch_size is not None, cfg.micro_batch_size == "auto"
        task = build(config["task"], **parts, micro_batch_size=None if auto else cfg.micro_batch_size)
        datamodule = SSLDataModule(store, **loading, covariates=task.covariates, volumes_on_host=on_host)
    else:
        datamodule = SupervisedDataModule(store, targets, **loading)
        mean, sd = datamodule.target_statistics
        task = build(config["task"], **parts, frozen=cfg.frozen, target_mean=mean, target_sd=sd)
    datamodule.cache_in_ram(cfg.ram_cache_gb)

    # Trainer
    checkpoints = callbacks.Checkpoints(run.checkpoints, cfg.checkpoint_minutes, **task.best)
    # In this order: a step's time is taken before anything else is done, and its loss is noted before it is saved.
    watching = [callbacks.Throughput(), callbacks.Health(store.manifest["scan_id"]), checkpoints, callbacks.Progress()]
    if pretraining:
        watching += [callbacks.ViewExamples(run.path), callbacks.Reconstructions(run.path)]
        watching.append(representation := callbacks.Representation(cfg.representation_every_epochs))
        representation.check_objective(cfg.objective, datamodule)
        watching += [callbacks.MicroBatchSize(run)] if auto else []
    if cfg.early_stopping_patience is not None:
        watching.append(callbacks.EarlyStopping(cfg.early_stopping_patience, **task.best))
    watching.append(pruning := callbacks.Pruning(open_trial(), cfg.objective or task.best.get("monitor")))
    trainer = build_trainer(
        config["trainer"],
        normalises=normalises,
        callbacks=watching,
        logger=build_loggers(config["logger"], run.path),
        default_root_dir=run.path,
        **TRAINING,
    )
    build(config["acceleration"]).apply(encoder, trainer.strategy.root_device)
    datamodule.check_shares(trainer.world_size)

    with faults_told(trainer), indeterminism_told(), run.locked(trainer.is_global_zero), tracked(trainer.loggers, run):
        resume_from = run.last_checkpoint()
        if trainer.is_global_zero:
            about = describe_run(config, choices(), task, data, weights, leakage.record, trainer.world_size)
            run.begin(about, resume_from)
            run.write_splits(store.manifest)
            leakage.seen.write(run.path)
            going_on = ", going on from its last checkpoint" if resume_from else ""
            divided = f"; {data['split']}" if data["split"] else ""
            print(f"{run.path}{going_on}\n  {datamodule}{divided}\n  {leakage}")
            if test_closed:
                print(f"  the test split stays closed: {test_closed}")
        begin_tracking(trainer.loggers, run, resume_from, point.sweep.name if point else None)
        if cfg.frozen:
            task.cache_features(datamodule, trainer.strategy.root_device, with_test=not test_closed)
        with out_of_memory_told(lambda: callbacks.what_would_fit(trainer, task, datamodule, own_encoder=not weights)):
            trainer.fit(task, datamodule, ckpt_path=resume_from)

        if pruning.pruned:
            if trainer.is_global_zero:
                run.prune()
            raise Pruned(f"pruned after epoch {pruning.epoch} of {trainer.max_epochs}: {run.path}")

        if isinstance(datamodule, SupervisedDataModule):
            # The test split is opened here, once, with the weights that the validation split chose.
            if trainer.is_global_zero and not test_closed:
                run.open_test()
            how = (trainer, task, datamodule, checkpoints.best, task_name)
            table, results = evaluate(*how, pretrained=bool(weights), open_test=not test_closed)
            results["leakage"] = leakage.record
            if trainer.is_global_zero:
                run.write_results(table, results)
                print(scores_table(results))
        if trainer.is_global_zero:  # before an upload, which may take a while: whoever ends that needs no second test
            run.finish(trainer.fit_loop.epoch_progress.current.processed, checkpoints.monitor, checkpoints.best_score)
            print(f"finished: {run.path}")
            if not pretraining:
                callbacks.draw_outcome(trainer, run, store)
    return run.validation_score(cfg.objective) if trainer.is_global_zero else None


if __name__ == "__main__":
    main()
