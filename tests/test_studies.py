"""Searches by Optuna: through the real command, against Optuna asked and told directly."""

import random
import shlex
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import optuna
import pandas as pd
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from neuro_ssl.errors import InputError
from neuro_ssl.points import read_points
from neuro_ssl.studies import read_space

RATE = "optimizer.learning_rate"


@pytest.fixture(scope="module")
def common(random_scans):
    return [
        *("encoder.width=8", "batch_size=4", "num_workers=0", "dataset=csv", "dataset.cohort=c", "grid=16mm"),
        *(f"data_dir={random_scans.path.parents[2]}", "logger=csv", "strategy=cpu"),
    ]


def record_of(run):
    return yaml.safe_load((run / "run.yaml").read_text())


def study_in(runs, name):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{runs}/.sweeps/{name}/study.db")


SPACES = {
    "a=x,1": CategoricalDistribution(["x", "1"]),
    "a=choice([1,2],'b c')": CategoricalDistribution(["[1,2]", r"b\ c"]),
    "a=range(2,9,3)": IntDistribution(2, 8, step=3),
    "a=range(4)": IntDistribution(0, 3),
    "a=range(0,1,0.25)": FloatDistribution(0, 0.75, step=0.25),
    "a=interval(1,2)": FloatDistribution(1, 2),
    "a=int(interval(1,64))": IntDistribution(1, 64),
    "a=tag(log,interval(0.001,1))": FloatDistribution(0.001, 1, log=True),
    "a=tag(log,int(interval(1,64)))": IntDistribution(1, 64, log=True),
}


@pytest.mark.parametrize("override", SPACES)
def test_the_space_is_what_hydra_s_syntax_says(override):
    space, fixed = read_space(OverridesParser.create().parse_overrides(["b=0", override, "b=1", "+c=2"]))
    assert space == {"a": SPACES[override]}
    assert fixed == ["b=1", "+c=2"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=0,1"], "seed cannot be searched"),
        (["dataset.cohort=a,b"], "dataset.cohort cannot be searched"),
        (["a=tag(log,interval(0,1))"], "a=tag.log,interval.0,1..: .*low"),
        (["a=interval(2,1)"], "a=interval.2,1.: .*low"),
        (["a=range(3,3)"], "a=range.3,3.: "),
        (["a=1,2", "a=1"], "nothing is searched"),
    ],
)
def test_what_cannot_be_searched_is_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        read_space(OverridesParser.create().parse_overrides(overrides))


PROBES = "linear_probe-brain_age"  # the search's name
SPACE = {
    RATE: FloatDistribution(0.001, 0.1, log=True),
    "early_stopping_patience": CategoricalDistribution(["0", "2"]),  # 0 is refused: such points fail
}


@pytest.fixture(scope="module")
def searches(common):
    """A search among linear probes of an untrained encoder, which are as fast as a run can be."""

    def command_line(runs, n_trials):
        return [
            *("-m", "+experiment=linear_probe", "trainer.max_epochs=1", *common, f"runs_dir={runs}"),
            *(
                f"{RATE}=tag(log,interval(0.001,0.1))",
                "early_stopping_patience=0,2",
                f"hydra.sweeper.n_trials={n_trials}",
            ),
            *("hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=7", "hydra.sweeper.sampler.n_startup_trials=1"),
        ]

    return command_line


@pytest.fixture(scope="module")
def searched(searches, command, tmp_path_factory):
    """The runs of four trials, and what the search printed."""
    runs = tmp_path_factory.mktemp("searched") / "runs"
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err, pytest.raises(SystemExit) as end:
        command("train", *searches(runs, 4))
    assert end.value.code == 1
    return runs, out.getvalue(), err.getvalue()


def asked_of_optuna(trials, space, direction, seed):
    """The parameters that Optuna chooses, given that its earlier choices came to these trials' values."""
    study = optuna.create_study(direction=direction)
    for place, trial in enumerate(trials):
        own_seed = random.Random(f"{seed} {place}").getrandbits(32)
        study.sampler = optuna.samplers.TPESampler(seed=own_seed, n_startup_trials=1, constant_liar=True)
        asked = study.ask(space)
        yield asked.params
        study.tell(asked, trial.value, state=trial.state)


def test_optuna_chooses_and_is_told_the_validation_scores(searched):
    runs, _, err = searched
    trials = study_in(runs, PROBES).trials
    assert [trial.params for trial in trials] == list(asked_of_optuna(trials, SPACE, "minimize", 7))
    points = read_points(runs / ".sweeps" / PROBES)
    assert [point.number for point in points] == [trial.number for trial in trials] == [0, 1, 2, 3]
    states = {"0": TrialState.FAIL, "2": TrialState.COMPLETE}
    for trial, point in zip(trials, points, strict=True):
        assert trial.state == states[trial.params["early_stopping_patience"]]
        assert f"{RATE}={trial.params[RATE]}" in point.overrides
        assert not any("hydra" in override for override in point.overrides)
        if trial.state == TrialState.COMPLETE:
            record = record_of(point.run)
            assert record["config"]["optimizer"]["learning_rate"] == trial.params[RATE]
            assert record["validation"] == {"metric": "val/loss", "value": trial.value}
            history = pd.read_csv(point.run / "metrics.csv")
            assert trial.value == pytest.approx(history[history["metric"] == "val/loss"]["value"].min(), rel=1e-6)
            assert record["test_opened"] == []
        else:
            assert point.status == "failed"
    assert len({trial.state for trial in trials}) == 2
    assert err.count("error: a point of the sweep failed") == sum(trial.state == TrialState.FAIL for trial in trials)
    assert (runs / ".sweeps" / PROBES / "multirun.yaml").exists()


def test_the_best_trial_s_command_runs_it_by_itself(searched, command, capsys):
    runs, out, _ = searched
    best = study_in(runs, PROBES).best_trial
    assert f"best: trial {best.number}, val/loss {best.value:.4g}" in out
    words = shlex.split(out.strip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "neuro_ssl.train"]
    before = set(runs.iterdir())
    command("train", *words[3:], "open_test=false")
    assert "already finished" in capsys.readouterr().out
    assert set(runs.iterdir()) == before
