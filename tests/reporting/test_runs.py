import json

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_runs import PRETRAINING, write_runs

from neuro_ssl.errors import InputError
from neuro_ssl.reporting.runs.reading import NOT_OPENED, apart_from_evaluations, read_runs

RUN = "sex-finetune-pretrained-0"


@pytest.fixture
def runs_dir(tmp_path):
    write_runs(tmp_path, tasks=("sex",), quality={("finetune", "pretrained"): (0, 1)})
    return tmp_path


def edit_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_yaml(file, **changes):
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


BREAKAGES = {
    "run.yaml": [
        lambda f: f.write_text("{"),
        lambda f: f.write_text("- 1"),
        lambda f: edit_yaml(f, seed="many"),
        lambda f: edit_yaml(f, stage="posttraining"),
    ],
    "results.json": [
        lambda f: f.write_text("{"),
        lambda f: edit_json(f, protocol="guessing"),
        lambda f: edit_json(f, scores={"auroc": 0.9}),
    ],
    "metrics.csv": [lambda f: f.write_text("step,value\n1,2\n"), lambda f: f.write_text("")],
    "predictions.parquet": [
        lambda f: f.write_bytes(b"no parquet"),
        lambda f: pd.read_parquet(f).drop(columns="target").to_parquet(f),
        lambda f: pd.read_parquet(f)[:-1].to_parquet(f),
    ],
    "views.npz": [lambda f: f.write_bytes(b"no archive"), lambda f: np.savez(f, original=np.zeros((1, 2, 2, 2)))],
}


@pytest.mark.parametrize(("name", "breakage"), [(name, b) for name, bs in BREAKAGES.items() for b in bs])
def test_a_broken_file_is_named(runs_dir, name, breakage):
    file = runs_dir / (PRETRAINING if name == "views.npz" else RUN) / name
    breakage(file)
    with pytest.raises(InputError) as error:
        read_runs(runs_dir)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("name", ["metrics.csv", "results.json", "predictions.parquet"])
def test_a_missing_file_makes_a_run_unfinished(runs_dir, name):
    (runs_dir / RUN / name).unlink()
    runs = read_runs(runs_dir)
    assert [(run.name, run.reason) for run in runs.unfinished] == [(RUN, f"no {name}")]
    assert runs.downstream == []


def test_only_test_predictions_are_read(runs_dir):
    (run,) = read_runs(runs_dir).downstream
    assert set(run.predictions["split"]) == {"test"}
    assert len(run.predictions) == run.results.n_test_scans


def test_trainings_of_evaluations_are_told_by_their_commands_and_stay_if_they_are_named(tmp_path):
    write_runs(tmp_path, tasks=("sex",), quality={("finetune", "pretrained"): (0, 1)}, seeds=(0, 1, 2))
    of_evaluation = "python -m neuro_ssl.train task=sex label_fraction=0.2 label_seed=1 seed=0 grid=4mm open_test="
    own = "python -m neuro_ssl.train task=sex seed=0 label_fraction=0.2 open_test=true"
    for seed, command in enumerate((own, of_evaluation + "true", of_evaluation + "false")):
        edit_yaml(tmp_path / f"sex-finetune-pretrained-{seed}" / "run.yaml", command=command)
    edit_yaml(tmp_path / "sex-finetune-pretrained-2" / "run.yaml", test_opened=[])
    runs = read_runs(tmp_path)
    assert [run.reason for run in runs.unfinished] == [NOT_OPENED]
    kept, left = apart_from_evaluations(runs, ())
    assert left == ["sex-finetune-pretrained-1", "sex-finetune-pretrained-2"]
    assert [run.path.name for run in kept.finished] == [PRETRAINING, RUN] and kept.unfinished == []
    kept, left = apart_from_evaluations(runs, {tmp_path / "sex-finetune-pretrained-1"})
    assert left == ["sex-finetune-pretrained-2"] and len(kept.downstream) == 2


def test_named_runs(runs_dir):
    runs = read_runs(runs_dir, [RUN])
    assert [len(runs.pretraining), len(runs.downstream)] == [0, 1]
    with pytest.raises(InputError, match="finetune-2"):
        read_runs(runs_dir, ["finetune-2"])
