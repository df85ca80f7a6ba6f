"""Training refuses damaged stores, labels that cannot be learned and weights that don't fit, before it starts."""

import json

import pandas as pd
import pytest
import torch
import yaml

from neuro_ssl.data.store import manifest_hash


def nothing(trained):
    pass


def info(**changes):
    def damage(trained):
        file = trained.store / "store.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


def column(name, values, keep_hash=False):
    """Change a column of the store's manifest, as another dataset would have it."""

    def damage(trained):
        file = trained.store / "manifest.parquet"
        manifest = pd.read_parquet(file)
        manifest = manifest.assign(**{name: [values[split] for split in manifest["split"]]})
        manifest.to_parquet(file, index=False)
        if not keep_hash:
            info(manifest_hash=manifest_hash(manifest))(trained)

    return damage


def volume(change):
    return lambda trained: change(sorted(trained.store.glob("volumes/*"))[1])


def second_store(trained):
    trained.store.rename(trained.store.with_name("8mm-00000000"))
    other = trained.store.with_name("8mm-11111111")
    other.mkdir()
    (other / "store.json").write_text("{}")


AGAIN = "run the preprocess command again"
SPLITS = {"train": "F", "val": "F", "test": "M"}
# case: (what is wrong with the files, further arguments, what the message names, its remedy)
STORES = {
    "no store of the cohort": (nothing, ["dataset.cohort=ixy"], "no volume store of cohort ixy", "preprocess grid=8mm"),
    "no store on the grid": (nothing, ["grid=4mm"], "on grid 4mm .*there are 8mm-", "preprocess grid=4mm"),
    "two stores on the grid": (second_store, [], "holds 2 stores of grid 8mm", "choose one by grid="),
    "unfinished": (lambda t: (t.store / "store.json").unlink(), [], "no volume store", "make it by"),
    "another format": (info(format_version=99), [], "8mm-.*: format 99", "delete the folder and preprocess again"),
    "a damaged description": (lambda t: (t.store / "store.json").write_text("{"), [], r"store\.json: damaged", AGAIN),
    "an empty description": (lambda t: (t.store / "store.json").write_text(""), [], r"store\.json: damaged", AGAIN),
    "half a description": (
        lambda t: (t.store / "store.json").write_text('{"format_version": 2}'), [], "it lacks cohort", AGAIN
    ),
    "no manifest": (lambda t: (t.store / "manifest.parquet").unlink(), [], r"manifest\.parquet: no such table", AGAIN),
    "a damaged manifest": (
        lambda t: (t.store / "manifest.parquet").write_bytes(b"PAR1"), [], r"manifest\.parquet: not a readable", AGAIN
    ),
    "a changed manifest": (
        column("sex", SPLITS, keep_hash=True), [], r"manifest\.parquet was changed since it was written", AGAIN
    ),
    "a missing volume": (volume(lambda file: file.unlink()), [], r"1 of 4 .*volumes/.*\.b2nd: No such file", AGAIN),
    "a truncated volume": (
        volume(lambda file: file.write_bytes(file.read_bytes()[:-99])), [], r"volumes/.*\.b2nd: damaged", AGAIN
    ),
    "an empty volume": (volume(lambda file: file.write_bytes(b"")), [], r"volumes/.*\.b2nd: damaged", AGAIN),
    "a foreign volume": (volume(lambda file: file.write_text("x" * 999)), [], r"volumes/.*\.b2nd: damaged", AGAIN),
}  # fmt: skip
LABELS = {
    "an unknown label": (
        column("diagnosis", dict.fromkeys(SPLITS, "ill")), ["task=alzheimers"], "'diagnosis' holds ill",
        "map them with dataset.values",
    ),
    "a label missing for all": (
        column("nihss", dict.fromkeys(SPLITS)), ["task=stroke_severity"],
        "no scan of split=train.*'nihss'", "fill it in",
    ),
    "a label missing in one split": (
        column("nihss", {"train": 1.0, "val": None, "test": 2.0}), ["task=stroke_severity"],
        "no scan of split=val.*'nihss'", "fill it in",
    ),
    "one class in a split": (column("sex", SPLITS), ["task=sex"], "holds only F in column 'sex'", "both classes"),
    "no such column": (nothing, ["task=alzheimers"], "no column 'diagnosis'", "there are"),
    "a regression on words": (nothing, ["task.target=sex"], "'sex' holds words", "needs numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", STORES)
def test_stores(trained, refuses, case):
    damage, arguments, names, remedy = STORES[case]
    damage(trained)
    added = refuses(
        "train", "+experiment=simclr_pretrain", *trained.arguments, "seed=5", *arguments, says=[names, remedy]
    )
    assert {file.name for file in added} <= {"checks.parquet"}


@pytest.mark.parametrize("case", LABELS)
def test_labels(trained, refuses, case):
    damage, arguments, names, remedy = LABELS[case]
    damage(trained)
    small = ["+experiment=from_scratch", "encoder.width=8", *trained.arguments]
    assert not refuses("train", *small, *arguments, says=[names, remedy])


@pytest.mark.parametrize("recipe", ["finetune", "kaczmarek2025/finetune", "kaczmarek2025/linear_probe"])
def test_recipes_that_need_weights(trained, refuses, recipe):
    says = ["weights", "give a pretraining run's directory"]
    assert not refuses("train", f"+experiment={recipe}", *trained.arguments, says=says)


def edited(name, **changes):
    """Change keys of a YAML file of the run, such as `encoder__width`."""

    def damage(trained):
        content = yaml.safe_load((trained.run / name).read_text())
        for path, value in changes.items():
            *parents, key = path.split("__")
            node = content
            for parent in parents:
                node = node[parent]
            node[key] = value
        (trained.run / name).write_text(yaml.safe_dump(content))

    return damage


def checkpoint(change):
    return lambda trained: change(trained.run / "checkpoints/last.ckpt")


def written(name, content):
    return lambda trained: (trained.run / name).write_text(content)


RETRAIN = "train it again"
WEIGHTS = {
    "no such folder": (nothing, "weights=/nowhere", "weights=/nowhere", "expected a folder with a run.yaml"),
    "no run": (nothing, "weights='{data}'", "is not a run directory", "expected a folder with a run.yaml"),
    "a file": (nothing, "weights='{run}/run.yaml'", "is not a run directory", "expected a folder with a run.yaml"),
    "unfinished": (edited("run.yaml", status="running"), None, "weights=.*unfinished", "start its command again"),
    "another architecture": (edited("run.yaml", config__encoder__width=16), None, "do not fit the encoder", RETRAIN),
    "an encoder that is no longer there": (
        edited("run.yaml", config__encoder___target_="neuro_ssl.encoders.Gone"), None,
        r"weights=.*neuro_ssl\.encoders\.Gone", "version",
    ),
    "an encoder with other parameters": (
        edited("run.yaml", config__encoder__depth=3), None, r"weights=.*depth", "version"
    ),
    "another grid": (edited("run.yaml", dataset__grid="4mm"), None, "grid=4mm, these have grid=8mm", "name the store"),
    "another preprocessing": (
        edited("run.yaml", dataset__preprocessing__version=0), None, "version=0, these have version=2", "same way"
    ),
    "a damaged checkpoint": (checkpoint(lambda file: file.write_bytes(b"x" * 999)), None, r"last\.ckpt", RETRAIN),
    "a truncated checkpoint": (
        checkpoint(lambda file: file.write_bytes(file.read_bytes()[:9999])), None, r"last\.ckpt", RETRAIN
    ),
    "an empty checkpoint": (checkpoint(lambda file: file.write_bytes(b"")), None, r"last\.ckpt", RETRAIN),
    "no checkpoint": (checkpoint(lambda file: file.unlink()), None, r"last\.ckpt", RETRAIN),
    "a checkpoint of something else": (
        checkpoint(lambda file: torch.save({"a": 1}, file)), None, r"last\.ckpt", RETRAIN
    ),
    "weights without an encoder": (
        checkpoint(lambda file: torch.save({"state_dict": {}}, file)), None, "do not fit the encoder", RETRAIN
    ),
    "a damaged record": (written("run.yaml", "a: ["), None, r"run\.yaml is not valid YAML", "delete"),
    "a record of nothing": (written("run.yaml", "3"), None, r"run\.yaml holds no record", "delete"),
    "half a record": (written("run.yaml", "status: finished"), None, r"run\.yaml", "delete|train it again"),
    "no configuration": (edited("run.yaml", config=None), None, r"run\.yaml: .*no encoder", RETRAIN),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(trained, refuses, case):
    damage, weights, names, remedy = WEIGHTS[case]
    damage(trained)
    weights = (weights or "weights='{run}'").format(run=trained.run, data=trained.data)
    assert not refuses("train", "+experiment=finetune", weights, *trained.arguments, says=[names, remedy])


REPORTS = {
    "no such folder": (nothing, ["runs_dir=/nowhere"], "/nowhere: no runs here", "train first"),
    "a folder without runs": (nothing, ["runs_dir='{data}'"], "no runs here", "train first"),
    "a run that is not there": (
        nothing,
        ["runs=[finetune-1]"],
        "runs=finetune-1: no run, evaluation",
        "of 1 in .*: simclr",
    ),
    "a damaged record": (written("run.yaml", "a: ["), [], r"run\.yaml: unreadable", RETRAIN),
    "a record of nothing": (written("run.yaml", "3"), [], r"run\.yaml: not a mapping", RETRAIN),
    "half a record": (written("run.yaml", "status: finished"), [], r"run\.yaml: name: Field required", RETRAIN),
    "damaged metrics": (written("metrics.csv", "a,b\n1"), [], r"metrics\.csv: lacks the columns epoch", RETRAIN),
    "empty metrics": (written("metrics.csv", ""), [], r"metrics\.csv: unreadable", RETRAIN),
    "damaged views": (written("views.npz", "x"), [], r"views\.npz: unreadable", RETRAIN),
    "an output that is a file": (nothing, ["output='{run}/run.yaml'"], r"cannot write .*run\.yaml", "another place"),
}


@pytest.mark.parametrize("case", REPORTS)
def test_reports(trained, refuses, case):
    damage, arguments, names, remedy = REPORTS[case]
    damage(trained)
    arguments = [argument.format(run=trained.run, data=trained.data) for argument in arguments]
    assert not refuses("report", f"runs_dir='{trained.runs}'", *arguments, says=[names, remedy])
