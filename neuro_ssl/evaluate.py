"""`python -m neuro_ssl.evaluate`: encoders compared on a cohort, from features to tables.

All that can be known to be wrong is found before anything is computed, and the labels of a test set are looked at once.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuro_ssl.commands import entry_point
from neuro_ssl.config import PREDICTING, build, check_components, choices, compose, plain
from neuro_ssl.errors import InputError
from neuro_ssl.launching import is_sweep
from neuro_ssl.schemas import EvaluateConfig

# What the evaluation itself sets for each training, so that `train` must not.
SET_HERE = {
    *("dataset", "data_dir", "runs_dir", "grid", "task", "weights", "seed", "split", "label_fraction", "label_seed"),
    *("open_test", "allow_leakage", "experiment", "strategy"),
}


@entry_point("evaluate")
def main(cfg: EvaluateConfig) -> None:
    """Evaluate, go on with an evaluation that was interrupted, or show one that is finished."""
    check_components(cfg, {"dataset": (), "cross_validation": (), "statistics": (), "trainer": tuple(PREDICTING)})
    if is_sweep():
        raise InputError("an evaluation compares all its models in one table: leave -m out, and name them in encoders")

    from neuro_ssl.checkpoint import Weights
    from neuro_ssl.console import quiet_libraries
    from neuro_ssl.evaluating.evaluation import Evaluation
    from neuro_ssl.evaluating.features import Features
    from neuro_ssl.evaluating.folds import CROSS_VALIDATION, LEAVE_SITE_OUT, ON_FILE
    from neuro_ssl.evaluating.models import collect, common_scans
    from neuro_ssl.evaluating.plan import all_cells, all_folds, check_lists, check_trainings, note_leakage
    from neuro_ssl.evaluating.predictions import CHOSEN_BY_AUROC, TRAINED, Predictor, Settings
    from neuro_ssl.evaluating.record import evaluation_name
    from neuro_ssl.evaluating.stores import Stores
    from neuro_ssl.evaluating.targets import read_tasks
    from neuro_ssl.evaluating.training import option
    from neuro_ssl.trainer import build_trainer

    quiet_libraries()
    config = plain(cfg)
    dataset = build(config["dataset"])
    tasks = []
    for words in cfg.tasks:
        name, *more = shlex.split(words)
        options = (f"task={name}", *more)
        tasks += read_tasks(name, plain(compose("train", options)["task"]), options)
    check_lists(cfg.protocols, cfg.test_sets, tasks, dataset.name)

    # Models, each with volumes as it wants them
    others = [name for name in cfg.test_sets if name not in (ON_FILE, CROSS_VALIDATION, LEAVE_SITE_OUT)]
    data = data_options(config)
    where = [option(key, config[key]) for key in ("runs_dir", "num_workers", "allow_leakage")]
    stores = Stores(dataset, others, data if cfg.prepare else None)
    main_volumes = stores.open(cfg.grid)
    scratch, training = {}, shlex.split(cfg.train)
    check_training(training)
    recipes = {name: recipe_of([f"+experiment={name}", *training]) for name in TRAINED}
    for words in cfg.from_scratch:
        name, *more = shlex.split(words)
        scratch[words] = (f"encoder={name}", *more)
        encoder = compose("train", ["+experiment=from_scratch", *scratch[words], *training])["encoder"]
        build(plain(encoder)).check_grid(next(iter(main_volumes.values())).grid.shape)
    weights = {name: Weights.load(path) for name, path in named_encoders(config["encoders"]).items()}
    default = plain(compose("train", [])["encoder"])
    if cfg.n_untrained < 0:
        raise InputError(f"n_untrained must be at least 0, got {cfg.n_untrained}")
    models = collect(weights, ("resnet18", default), cfg.n_untrained, scratch, main_volumes, stores.open)

    # Whom they are judged on
    scans, left_out = {}, {}
    for cohort in main_volumes:
        scans[cohort], left_out[cohort] = common_scans(models, cohort, [task.target.target for task in tasks])
    by_auroc = bool(cfg.from_scratch) or not {*cfg.protocols}.isdisjoint(CHOSEN_BY_AUROC)
    trained = bool(cfg.from_scratch) or bool(weights and "finetune" in cfg.protocols)
    cross_validation = build(config["cross_validation"])
    folds = all_folds(tasks, cfg.test_sets, scans, cross_validation, by_auroc=by_auroc, trained=trained)
    note_leakage(models, folds, scans, allow=cfg.allow_leakage)

    trainer = build_trainer(config["trainer"], **PREDICTING)
    features = Features(Path(cfg.features_dir), trainer, cfg.batch_size, cfg.num_workers)
    recipe = compose("train", ["+experiment=linear_probe"])
    linear_probe = {"optimizer": build(plain(recipe["optimizer"])), "batch_size": recipe["batch_size"]}
    linear_probe["max_epochs"] = recipe["trainer"]["max_epochs"]
    settings = Settings(
        fractions=tuple(cfg.label_fractions),
        train_fractions=tuple(cfg.train_fractions),
        label_seeds=tuple(cfg.label_seeds),
        seeds=tuple(cfg.seeds),
        train=tuple(training),
        linear_probe=linear_probe,
        recipes=recipes,
    )
    cells = all_cells(tasks, folds, models, cfg.protocols)
    check_trainings(cells, next(iter(scans.values())), settings.train_fractions)
    evaluation = Evaluation(
        Path(cfg.runs_dir) / evaluation_name(next(iter(main_volumes.values()))),
        cells,
        Predictor(scans, features, folds, settings, [*data, *where, f"strategy={choices()['strategy']}"]),
        build(config["statistics"]),
        left_out,
    )
    if evaluation.directory.is_finished:
        if trainer.is_global_zero:
            print(f"already finished: {evaluation.directory.results}\n\n{evaluation.text}")
        return
    evaluation.directory.check_openings(cfg.reopen_test)
    if trainer.is_global_zero:
        print(evaluation)
    for model in evaluation.models:
        features.extract(model)
    if trainer.is_global_zero:
        evaluation.run(config, cfg.reopen_test)
        print(f"{evaluation.text}\nfinished: {evaluation.directory.results}")


def data_options(config: dict[str, Any]) -> list[str]:
    """The options that give another command this command's cohort, whether it was typed or comes from a recipe."""
    from neuro_ssl.evaluating.training import option

    options = [f"dataset={choices()['dataset']}", option("data_dir", config["data_dir"])]
    usual = compose("train", options)["dataset"]
    for key, value in config["dataset"].items():
        if key not in usual or plain(usual[key]) != value:
            options.append(option(f"dataset.{key}", value))
    return options


def recipe_of(options: Sequence[str]) -> dict[str, Any]:
    """How the command `train` would train with these options, whatever it is given."""
    config = compose("train", options)
    parts = ("optimizer", "trainer", "views", "sampling", "batch_size", "early_stopping_patience", "frozen")
    return {name: plain(config[name]) for name in parts}


def check_training(options: Sequence[str]) -> None:
    """Refuse options of trainings that would undo what the evaluation gives each of them.

    Raises:
        InputError: naming one.
    """
    for given in options:
        if re.split(r"[.=@]", given.lstrip("+~"), maxsplit=1)[0] in SET_HERE:
            raise InputError(f"train: {given} would undo what the evaluation sets for each training: leave it out")


def named_encoders(encoders: Any) -> dict[str, str]:
    """The configured weights by name.

    Raises:
        InputError: it is no mapping of names to texts.
    """
    if encoders is None:
        return {}
    if not isinstance(encoders, dict) or not all(isinstance(path, str) for path in encoders.values()):
        raise InputError(f"encoders must map names to weights, as in {{ours: runs/simclr_pretrain-…}}; got {encoders}")
    return {str(name): path for name, path in encoders.items()}


if __name__ == "__main__":
    main()
