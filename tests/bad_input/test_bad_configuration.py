"""A command line or a recipe that says something wrong: one message with the key, before anything else happens."""

import subprocess
import sys

import pytest
from hydra.errors import ConfigCompositionException

# (command, arguments, what the message names, its remedy)
CASES = [
    ("train", ["sede=1"], "sede is no key", "did you mean seed"),
    ("train", ["+sede=1"], "sede is not a key", "did you mean seed"),
    ("train", ["encodr=resnet18"], "encodr is no key", "did you mean encoder"),
    ("train", ["optimizer.learing_rate=1"], r"optimizer\.learing_rate", "did you mean learning_rate"),
    ("train", ["+optimizer.learing_rate=1"], r"optimizer\.learing_rate", "did you mean learning_rate"),
    ("train", ["+trainer.max_epoch=3"], r"trainer\.max_epoch is not a parameter", "did you mean max_epochs"),
    ("train", ["+trainer.zzz=3"], r"trainer\.zzz is not a parameter", "it takes .*max_epochs"),
    ("train", ["task=simcrl"], "task/simcrl", "Available options in 'task': .*simclr"),
    ("train", ["encoder=resnet81"], "encoder/resnet81", "Available options in 'encoder': .*resnet18"),
    ("train", ["+experiment=fintune"], "experiment/fintune", "Available options in 'experiment': finetune"),
    ("train", ["seed=abc"], "seed=abc", "could not be converted to Integer"),
    ("train", ["seed=1.5"], "seed=1.5", "could not be converted to Integer"),
    ("train", ["frozen=perhaps"], "frozen=perhaps", "not a valid bool"),
    ("train", ["trainer.max_epochs=many"], r"trainer\.max_epochs='many'", "integer"),
    ("train", ["trainer.max_epochs='3'"], r"trainer\.max_epochs='3'", "integer"),
    ("train", ["micro_batch_size=many"], "got many", "a number of scans, auto, or null"),
    ("train", ["task=sex", "micro_batch_size=auto"], "micro_batch_size is for pretraining", "smaller batch_size"),
    ("train", ["task=sex", "objective=representation/rankme"], "objective=representation/rankme is for", "to null"),
    ("train", ["optimizer.algorithm=sgdd"], r"optimizer\.algorithm='sgdd'", "'adamw'"),
    ("train", ["trainer.precision=17"], r"trainer\.precision", "32"),
    ("train", ["task.temperature=warm"], r"task\.temperature='warm'", "number"),
    ("train", ["task=sex", "~task.target"], r"task\.target is missing", "needs it"),
    ("train", ["~seed"], "seed is needed", "leave out ~seed"),
    ("train", ["encoder._target_=neuro_ssl.encoders.Gone"], r"encoder\._target_: cannot import", "Gone"),
    ("train", ["grid='${gird}'"], "grid: Interpolation key 'gird' not found", "gird"),
    ("train", ["seed"], "override 'seed'", "missing EQUAL.*quotes"),
    ("train", ["seed=[1"], r"seed=\[1", "quotes"),
    ("train", ["grid=big"], "grid big", "preprocess grid=big"),
    ("train", ["--config-dir=/nowhere"], "/nowhere", "not found"),
    ("preprocess", ["grid=big"], "got 'big'", "grid must be paper_1mm, a spacing .* such as 128x160x128@1.25mm"),
    ("preprocess", ["n_jobs=0"], "n_jobs must be at least 1, got 0", "at least 1"),
    ("preprocess", ["registration=syn"], "got 'syn'", "must be one of rigid, affine, centre, none"),
    ("preprocess", ["brain_extraction=bet"], "got 'bet'", "must be auto, mask, deepbet, synthstrip or none"),
    ("preprocess", ["dataset=cvs"], "dataset/cvs", "Available options in 'dataset': .*csv"),
    ("preprocess", ["splits.train=0.9"], "'train': 0.9", "fractions for train, val, test that add up to 1"),
    ("preprocess", ["splits={train: 1.2, val: -0.2, test: 0}"], "'val': -0.2", "add up to 1"),
    ("preprocess", ["splits={training: 1}"], r"splits\.training is no key", "did you mean train"),
    ("preprocess", ["splits={}", "~splits.train", "~splits.val", "~splits.test"], "got {}", "add up to 1"),
    ("preprocess", ["splits=[0.6,0.4]"], r"splits=\[0.6,0.4\]", "Cannot merge"),
    ("preprocess", ["+dataset.mask=x"], r"dataset\.mask is not a parameter", "did you mean mask_derivative|it takes"),
    ("simulate", ["n_subject=1"], "n_subject is no key", "did you mean n_subjects"),
    ("simulate", ["n_subjects=0"], "n_subjects .*got 0", "from 1 to 9999"),
    ("simulate", ["n_subjects=10000"], "n_subjects .*got 10000", "from 1 to 9999"),
    ("simulate", ["n_subjects=few"], "n_subjects=few", "Integer"),
    ("simulate", ["spacing_mm=0"], "spacing_mm .*got 0", "from 1 to 8"),
    ("simulate", ["age_range=[60,50]"], r"age_range .*got \[60", "youngest, oldest"),
    ("simulate", ["stroke_fraction=0.9"], "stroke_fraction", "more than 1"),
    ("simulate", ["seed=-1"], "seed .*got -1", "0 or more"),
    ("simulate", ["n_jobs=0"], "n_jobs .*got 0", "1 or more"),
    ("report", ["run=[a]"], "run is no key", "did you mean runs"),
    ("report", ["runs=a"], "runs=a", "list"),
]


@pytest.mark.parametrize(("name", "arguments", "names", "remedy"), CASES, ids=lambda value: str(value)[:40])
def test_command_lines(simulated, tmp_path, refuses, name, arguments, names, remedy):
    place = {
        "train": [f"data_dir={tmp_path}", f"runs_dir={tmp_path}", "dataset=csv", "dataset.cohort=c"],
        "preprocess": [f"data_dir={tmp_path}", f"dataset.root={simulated}", "grid=16mm", "n_jobs=1"],
        "simulate": [f"output={tmp_path}/new"],
        "report": [f"runs_dir={tmp_path}"],
    }[name]
    if any(argument.startswith("dataset=") for argument in arguments):
        place = [argument for argument in place if not argument.startswith("dataset")]
    assert not refuses(name, *place, *arguments, says=[names, remedy])


@pytest.mark.parametrize(
    ("arguments", "names", "remedy"),
    [
        (["batch_size=0"], "batch_size must be at least 1, got 0", "at least 1"),
        (["num_workers=-1"], "num_workers must be at least 0, got -1", "at least 0"),
    ],
)
def test_numbers_that_training_checks(trained, refuses, arguments, names, remedy):
    small = ["+experiment=from_scratch", "encoder.width=8", *trained.arguments]
    assert not refuses("train", *small, *arguments, says=[names, remedy])


def test_without_validation_no_epoch_is_best_and_the_test_split_stays_closed(trained, refuses):
    small = ["+experiment=from_scratch", "encoder.width=8", *trained.arguments, "+trainer.limit_val_batches=0"]
    written = refuses("train", *small, says=["training ended before val/.* was measured", "limit_val_batches"])
    (record,) = [file for file in written if file.name == "run.yaml"]
    assert "test_opened: []" in record.read_text()


def test_a_sweep_composes_all_points_before_it_trains_the_first(trained, refuses):
    arguments = ["+experiment=from_scratch", *trained.arguments]
    added = refuses("train", "-m", "seed=7,x", *arguments, says=["seed=x", "could not be converted to Integer"])
    assert {file.name for file in added} <= {"multirun.yaml"}


@pytest.mark.parametrize(
    ("content", "names", "remedy"),
    [
        ("bach_size: 3", "'experiment/mine': bach_size", "did you mean batch_size"),
        ("task: {temprature: 0.1}", r"task\.temprature", "did you mean temperature"),
        ("batch_size: many", "'experiment/mine'.*'many'.*batch_size", "could not be converted to Integer"),
        ("a: [", r"experiment/mine\.yaml", "line"),
        ("defaults: [override /task: nothing]", "task/nothing", "Available options"),
    ],
)
def test_recipes(tmp_path, refuses, content, names, remedy):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{content}\n")
    assert not refuses("train", "--config-dir", tmp_path, "+experiment=mine", says=[names, remedy])


def test_as_a_process_without_a_traceback_unless_asked_for(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "neuro_ssl.simulate", "n_subjects=0", f"output={tmp_path}/d", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    plain, debug = run(), run("debug=true")
    assert plain.returncode == debug.returncode == 1
    assert plain.stderr.startswith("error: n_subject") and plain.stderr.count("\n") == 1 and plain.stdout == ""
    assert "Traceback" in debug.stderr and "InputError" in debug.stderr
    assert not list(tmp_path.iterdir())


def test_a_traceback_of_what_does_not_compose_where_asked_for(command, tmp_path):
    with pytest.raises(ConfigCompositionException):
        command("simulate", "n_subject=1", f"output={tmp_path}/d", "debug=true")
    assert not list(tmp_path.iterdir())
