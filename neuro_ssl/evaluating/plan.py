"""What is evaluated: folds, leakage and the lines of the tables, checked before anything is computed."""

from collections.abc import Mapping, Sequence

import pandas as pd

from neuro_ssl.data.leakage import check_leakage
from neuro_ssl.data.targets import Target, read_labels
from neuro_ssl.errors import InputError
from neuro_ssl.evaluating.folds import CROSS_VALIDATION, LEAVE_SITE_OUT, ON_FILE, CrossValidation, Fold, folds
from neuro_ssl.evaluating.models import Model
from neuro_ssl.evaluating.predictions import PROTOCOLS, TRAINED, Cell, protocols_of
from neuro_ssl.evaluating.targets import Task
from neuro_ssl.evaluation.probes import PROBES

Folds = dict[tuple[str, str], list[Fold]]


def check_lists(protocols: Sequence[str], test_sets: Sequence[str], tasks: Sequence[Task], cohort: str) -> None:
    """Refuse unknown protocols, and anything named twice.

    Raises:
        InputError: there is such a thing.
    """
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise InputError(f"protocols: {unknown[0]} is none of {', '.join(PROTOCOLS)}")
    for key, names in (
        ("protocols", protocols),
        ("test_sets", test_sets),
        ("tasks", [task.target.name for task in tasks]),
    ):
        if not names or len(set(names)) < len(names):
            raise InputError(f"{key} must name each once, and at least one; got {list(names)}")
    for task in tasks:
        of_kind = [name for name in protocols if name not in PROBES or task.target.kind in PROBES[name]]
        if not of_kind:
            raise InputError(
                f"protocols: none of {', '.join(protocols)} is for a {task.target.kind}, as {task.target.name}"
            )
    if cohort in test_sets:
        raise InputError(f"test_sets: {cohort} is the cohort that models are fitted to; its test split is called test")


def all_folds(
    tasks: Sequence[Task],
    test_sets: Sequence[str],
    scans: Mapping[str, pd.DataFrame],
    cross_validation: CrossValidation,
    *,
    by_auroc: bool,
    trained: bool,
) -> Folds:
    """The folds of each task and test set, each with labelled scans to fit, to choose and to test.

    Args:
        tasks: what is predicted.
        test_sets: see `neuro_ssl.evaluating.folds`.
        scans: the manifest of each cohort, the one that models are fitted to first.
        cross_validation: its settings.
        by_auroc: whether some protocol chooses a classifier's epoch by AUROC on validation scans.
        trained: whether some protocol is a training of its own, which needs every split with both classes.

    Returns:
        Without the folds of which no test scan has a label, such as sites where nobody was asked.

    Raises:
        InputError: labels are missing, or of one class alone.
    """
    own = next(iter(scans.values()))
    found: Folds = {}
    for target in (task.target for task in tasks):
        for test_set in test_sets:
            divided = folds(test_set, own, target, cross_validation)
            values = read_labels(own, target, f"task {target.name}: cohort {next(iter(scans))}").set_axis(
                own["scan_id"]
            )
            if divided[0].other_cohort:
                tested = read_labels(scans[test_set], target, f"task {target.name}: cohort {test_set}")
            else:
                tested = pd.concat([values[fold.split == "test"] for fold in divided])
                divided = [fold for fold in divided if values[fold.split == "test"].notna().any()]
            _check_labels(target, test_set, "test", tested, True)
            needed = {"train": True, "val": by_auroc} | ({"test": True} if trained else {})
            for fold in divided:
                for split, both_classes in needed.items():
                    _check_labels(target, fold.name, split, values[fold.split == split], both_classes)
            found[target.name, test_set] = divided
    return found


def _check_labels(target: Target, test_set: str, split: str, values: pd.Series, both_classes: bool) -> None:
    values = values.dropna()
    if values.empty:
        raise InputError(f"task {target.name}, test set {test_set}: no {split} scan has a label in {target.target!r}")
    if target.classes and values.nunique() == 1 and both_classes:
        only = target.classes[int(values.iloc[0])]
        raise InputError(
            f"task {target.name}, test set {test_set}: all {split} scans are {only}; both classes are needed, in the "
            "test split of every fold too if something is trained on it (finetune in protocols, from_scratch)"
        )


def note_leakage(models: Sequence[Model], found: Folds, scans: Mapping[str, pd.DataFrame], *, allow: bool) -> None:
    """Look up for every test set whether a model's weights have seen whom they are judged on.

    Args:
        models: to whose `leakage` it is noted.
        found: the folds.
        scans: the manifest of each cohort, the one that models are fitted to first.
        allow: go on where weights have.

    Raises:
        InputError: they have, naming the model and subjects.
    """
    own = next(iter(scans.values()))
    for test_set in dict.fromkeys(name for _, name in found):
        evaluated = _evaluated(test_set, own, scans)
        for model in models:
            weights = model.weights[0] if model.role == "pretrained" else None
            path, seen = (str(weights.path), weights.seen) if weights else (None, None)
            try:
                model.leakage[test_set] = check_leakage(evaluated, path, seen, evaluates=True, allow=allow)
            except InputError as error:
                raise InputError(f"{model.name}, test set {test_set}: {error}") from error


def _evaluated(test_set: str, own: pd.DataFrame, scans: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Scans with the split that says who is judged; in a cross-validation everybody, and never by themselves."""
    if test_set in (ON_FILE, LEAVE_SITE_OUT):
        return own
    if test_set == CROSS_VALIDATION:
        return own.assign(split="test")
    return pd.concat([own[own["split"] != "test"], scans[test_set].assign(split="test")], ignore_index=True)


def check_trainings(cells: Sequence[Cell], scans: pd.DataFrame, fractions: Sequence[float]) -> None:
    """Refuse what the command `train` would refuse, or do on other scans than the evaluation's.

    Args:
        cells: the lines of the tables.
        scans: of the cohort that models are fitted to.
        fractions: of the labelled training persons.

    Raises:
        InputError: a fraction of several targets, or scans that take no part here.
    """
    for cell in cells:
        if cell.protocol not in TRAINED:
            continue
        together = {other.task.target.name: None for other in cells if other.task.options == cell.task.options}
        if len(together) > 1 and min(fractions) < 1:
            raise InputError(
                f"train_fractions={list(fractions)}: {', '.join(together)} are trained together, and a share of the "
                "labelled persons is one target's; set train_fractions=[1.0], or name tasks of one target"
            )
        store = next(iter(cell.model.volumes.values()))
        if more := sorted(set(store.manifest["scan_id"]) - set(scans["scan_id"])):
            raise InputError(
                f"{cell.model.name}, {cell.protocol}: {store.path} holds {len(more)} scans that another encoder's "
                f"volumes lack, and would train on them, first {more[0]}; preprocess those too, or list these in the "
                "cohort's exclude.csv"
            )


def all_cells(tasks: Sequence[Task], found: Folds, models: Sequence[Model], protocols: Sequence[str]) -> list[Cell]:
    """The lines of all tables, in their order."""
    return [
        Cell(task, test_set, model, protocol)
        for task in tasks
        for name, test_set in found
        if name == task.target.name
        for model in models
        for protocol in protocols_of(model, task.target, protocols)
    ]
