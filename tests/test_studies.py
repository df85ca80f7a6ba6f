"""Searches by Optuna: through the real command, against Optuna asked and told directly."""

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import optuna
import pandas as pd
import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from neuro_ssl.callbacks import Progress
from neuro_ssl.errors import InputError
from neuro_ssl.files import held
from neuro_ssl.points import read_points
from neuro_ssl.reporting.runs.reading import read_directories
from neuro_ssl.run import RunDirectory
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
    assert f"error: {sum(trial.state == TrialState.FAIL for trial in trials)} of 4 points of the sweep failed" in err
    assert (runs / ".sweeps" / PROBES / "multirun.yaml").exists()


@pytest.mark.slow
def test_the_best_trial_s_command_runs_it_by_itself(searched, command, capsys):
    runs, out, _ = searched
    best = study_in(runs, PROBES).best_trial
    assert f"best: trial {best.number}, val/loss {best.value:.4g}" in out
    (command_shown,) = (line for line in out.splitlines() if line.startswith("  python -m neuro_ssl.train"))
    words = shlex.split(command_shown)
    assert f"{RATE}={best.params[RATE]}" in words
    before = set(runs.iterdir())
    command("train", *words[3:], "open_test=false")
    assert "already finished" in capsys.readouterr().out
    assert set(runs.iterdir()) == before


class Killed(BaseException):
    """Stands for kill -9: nothing of ours or of Lightning's catches it to tidy up."""


def killed(*_, **__):
    raise Killed


def test_killed_it_goes_on_with_the_same_trials(searches, command, tmp_path, monkeypatch):
    arguments = ["train", *searches(tmp_path, 2), "early_stopping_patience=2"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "on_train_end", killed)  # in the first trial's run
        command(*arguments)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(optuna.Trial, "set_user_attr", killed)  # while the second trial gets its settings
        command(*arguments)
    assert [trial.state for trial in study_in(tmp_path, PROBES).trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    command(*arguments)
    begun = [trial for trial in study_in(tmp_path, PROBES).trials if trial.user_attrs]
    assert [trial.number for trial in begun] == [0, 2]
    assert [trial.params for trial in begun] == list(asked_of_optuna(begun, {RATE: SPACE[RATE]}, "minimize", 7))
    assert [point.number for point in read_points(tmp_path / ".sweeps" / PROBES)] == [0, 2]
    assert len(list(tmp_path.glob("linear_probe-*"))) == 2
    before = (tmp_path / ".sweeps" / PROBES / "study.db").read_bytes()
    command(*arguments)  # has nothing to do
    assert (tmp_path / ".sweeps" / PROBES / "study.db").read_bytes() == before


@pytest.mark.slow
def test_what_failed_gets_another_try(searches, command, tmp_path, monkeypatch, capsys):
    arguments = ["train", *searches(tmp_path, 2), "early_stopping_patience=2"]

    def full(*_):
        raise InputError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Progress, "on_train_start", full)
        command(*arguments)
    out, err = capsys.readouterr()
    assert "none came to a score; put right what the errors say" in out
    assert "error: 2 of 2 points of the sweep failed" in err
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(optuna.Trial, "set_user_attr", killed)  # before the second try has begun
        command(*arguments)
    command(*arguments)
    trials = study_in(tmp_path, PROBES).trials
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 3 + [TrialState.COMPLETE] * 2
    assert [trial.params for trial in trials[3:]] == [trials[1].params, trials[0].params]
    points = read_points(tmp_path / ".sweeps" / PROBES)
    assert [(point.number, point.status) for point in points] == [(3, "finished"), (4, "finished")]
    assert "search linear_probe-brain_age: 2 trials, 2 complete" in capsys.readouterr().out


def test_a_search_with_other_settings_is_another_one(searched, searches, command, capsys):
    runs, *_ = searched
    for changed, told in [
        ("trainer.max_epochs=2", "trainer.max_epochs: 1 → 2"),
        (f"{RATE}=tag(log,interval(0.01,0.1))", "low=0.001, step=None) → FloatDistribution"),
        ("hydra.sweeper.sampler.seed=8", "hydra.sweeper.sampler.seed: 7 → 8"),
    ]:
        with pytest.raises(SystemExit):
            command("train", *searches(runs, 4), changed)
        out, error = capsys.readouterr()
        assert told in error
        assert f"hydra.sweeper.study_name={PROBES}_2" in error
        assert "To test" not in out, "the table of the study that was refused"
    assert len(study_in(runs, PROBES).trials) == 4


@pytest.mark.slow
def test_of_two_sweeps_on_one_study_the_second_is_refused(searched, searches, command, capsys):
    runs, *_ = searched
    with held(runs / ".sweeps" / PROBES, work="", elsewhere=""), pytest.raises(SystemExit):
        command("train", *searches(runs, 4))
    assert "another process runs this search" in capsys.readouterr().err


def test_without_optuna_it_says_how_to_get_it(searches, command, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit):
        command("train", *searches(tmp_path, 4))
    assert "pip install 'neuro_ssl[optuna]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be a whole number of at least 1, got 0"),
        (["optimizer.rate=1,2"], "optimizer.rate"),
        (["open_test=true"], "doesn't open the test split"),
        (["hydra.sweeper.storage=postgres"], "hydra.sweeper.storage=postgres cannot be opened"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_trial(searches, command, capsys, tmp_path, changed, told):
    with pytest.raises(SystemExit):
        command("train", *searches(tmp_path, 4), *changed)
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert told in error
    assert not list(tmp_path.glob("linear_probe-*"))


PRETRAININGS = "simclr_pretrain-simclr"


@pytest.fixture(scope="module")
def pretraining(common):
    return [
        *("+experiment=simclr_pretrain", "trainer.max_epochs=3", *common),
        *("representation_every_epochs=1", "objective=representation/rankme"),
    ]


def pruner(study):
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    return study


@pytest.fixture(scope="module")
def pruned(pretraining, command, tmp_path_factory):
    """The runs of a search among pretraining runs, some of which were pruned."""
    runs = tmp_path_factory.mktemp("pruned") / "runs"
    command(
        *("train", "-m", *pretraining, f"runs_dir={runs}", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3"),
        *("task.temperature=tag(log,interval(0.03,1))", f"{RATE}=tag(log,interval(0.0001,0.1))"),
        *("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=0"),
    )
    return runs


def test_optuna_s_pruner_decides_by_each_measurement(pruned):
    again = pruner(optuna.create_study(direction="maximize"))
    trials = study_in(pruned, PRETRAININGS).trials
    points = read_points(pruned / ".sweeps" / PRETRAININGS)
    for trial, point in zip(trials, points, strict=True):
        again.enqueue_trial(trial.params)
        asked = again.ask(trial.distributions)
        history = pd.read_csv(point.run / "metrics.csv")
        measured = history[history["metric"] == "representation/rankme"]["value"].tolist()
        for epoch, value in enumerate(measured[:2], start=1):  # after the third nothing is left to prune
            assert trial.intermediate_values[epoch] == pytest.approx(value, rel=1e-6)
            asked.report(value, epoch)
            stops = asked.should_prune()
            assert stops == (trial.state == TrialState.PRUNED and epoch == len(measured))
        again.tell(asked, trial.value if trial.state == TrialState.COMPLETE else None, trial.state)
        record = record_of(point.run)
        assert (point.run / "checkpoints" / "last.ckpt").exists()
        if trial.state == TrialState.PRUNED:
            assert (point.status, record["status"]) == ("pruned", "pruned")
            assert "validation" not in record
        else:
            assert (point.status, record["status"]) == ("finished", "finished")
            assert record["validation"] == {"metric": "representation/rankme", "value": trial.value}
            assert trial.value == measured[-1]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
def test_a_pruned_run_goes_on_by_itself_and_is_what_it_would_have_been(pruned, pretraining, command, tmp_path, capsys):
    point = next(point for point in read_points(pruned / ".sweeps" / PRETRAININGS) if point.status == "pruned")
    assert [run.reason for run in read_directories([point.run]).unfinished] == ["pruned by a search"]
    runs = shutil.copytree(pruned, tmp_path / "runs")
    states = []
    for folder in (runs, tmp_path / "at once"):
        command("train", *point.overrides, f"runs_dir='{folder}'")
        run = folder / point.run.name
        assert record_of(run)["status"] == "finished"
        states.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert "going on from its last checkpoint" in capsys.readouterr().out
    gone_on, at_once = states
    assert gone_on.keys() == at_once.keys()
    assert all(torch.equal(gone_on[name], at_once[name]) for name in at_once)


def test_an_objective_that_is_not_there_is_refused_before_training(pretraining, searches, command, tmp_path, capsys):
    for changed, told in [
        (["objective=representation/rank"], "cannot be told .* but representation/rankme; a probe needs labels of 10"),
        (["objective=representation/age_years_ridge_mae"], "cannot be told"),
        (["representation_every_epochs=0"], "is never measured: set representation_every_epochs"),
    ]:
        with pytest.raises(SystemExit):
            command("train", *pretraining, f"runs_dir={tmp_path}", *changed)
        assert re.search(told, capsys.readouterr().err)
    with pytest.raises(SystemExit):  # what is no measure of quality, before the first trial
        command(
            *("train", "-m", *pretraining, f"runs_dir={tmp_path}", "hydra/sweeper=optuna", f"{RATE}=0.1,0.2"),
            "objective=representation/alignment",
        )
    assert "objective=representation/alignment is nothing to search by" in capsys.readouterr().err
    assert not list(tmp_path.glob("simclr*"))


@pytest.mark.slow
def test_a_run_that_finished_before_tells_another_objective(pruned, pretraining, command, tmp_path, capsys):
    runs = shutil.copytree(pruned, tmp_path / "runs")
    best = study_in(runs, PRETRAININGS).best_trial
    point = read_points(runs / ".sweeps" / PRETRAININGS)[best.number]
    for objective in ("null", "representation/uniformity"):
        command("train", *point.overrides, f"runs_dir={runs}", f"objective={objective}")
        assert "already finished" in capsys.readouterr().out
    history = pd.read_csv(point.run / "metrics.csv")
    last = history[history["metric"] == "representation/uniformity"]["value"].iloc[-1]
    assert record_of(point.run)["validation"] == {"metric": "representation/uniformity", "value": last}
    with pytest.raises(SystemExit):
        command("train", *point.overrides, f"runs_dir={runs}", "objective=representation/sex_logistic_auroc")
    assert "ended without measuring representation/sex_logistic_auroc; delete it" in capsys.readouterr().err


def run_as_process(arguments):
    """The command in a process group of its own."""
    command = [sys.executable, "-m", "neuro_ssl.train", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.slow  # a minute
def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(searches, command, tmp_path):
    """What an undisturbed search comes to: ten trials, the same ones."""
    undisturbed, killed_at = tmp_path / "undisturbed", tmp_path / "killed"
    command("train", *searches(undisturbed, 10), "early_stopping_patience=2")
    arguments = [*searches(killed_at, 10), "early_stopping_patience=2"]
    points, after = killed_at / ".sweeps" / PROBES / "points", random.uniform(0, 8)
    process = run_as_process(arguments)
    try:
        while len(list(points.glob("*.json"))) < 1 + int(after):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(after % 1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    begun = len(list(points.glob("*.json")))
    assert 1 <= begun <= 10
    assert run_as_process(arguments).wait(timeout=300) == 0
    expected, found = study_in(undisturbed, PROBES).trials, study_in(killed_at, PROBES).trials
    assert [trial.state for trial in expected] == [TrialState.COMPLETE] * 10
    told = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert [trial.params for trial in told] == [trial.params for trial in expected]
    assert [trial.value for trial in told] == [trial.value for trial in expected]
    assert all(not trial.params for trial in found if trial not in told) or len(found) == 10
    for folder in (undisturbed, killed_at):
        assert len(list(folder.glob("linear_probe-*"))) == 10
    for run in undisturbed.glob("linear_probe-*"):
        history = pd.read_csv(killed_at / run.name / "metrics.csv")
        assert not history.duplicated(["step", "metric"]).any()
        assert record_of(killed_at / run.name)["validation"] == record_of(run)["validation"]


@pytest.mark.slow  # a minute
def test_trials_side_by_side(searches, tmp_path):
    n_jobs = ["hydra.sweeper.n_jobs=2", "hydra.launcher.n_jobs=2"]
    arguments = [*searches(tmp_path, 5), "early_stopping_patience=2", "hydra/launcher=joblib", *n_jobs]
    assert run_as_process(arguments).wait(timeout=300) == 0
    trials = study_in(tmp_path, PROBES).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    points = read_points(tmp_path / ".sweeps" / PROBES)
    values = {point.number: record_of(point.run)["validation"]["value"] for point in points}
    assert values == {trial.number: trial.value for trial in trials}
    pairs = [trials[i : i + 2] for i in (0, 2)]
    assert all(second.datetime_start < first.datetime_complete for first, second in pairs)


@pytest.mark.slow  # a minute and a half
def test_all_processes_of_a_trial_are_pruned_after_the_same_epoch(pretraining, tmp_path):
    arguments = [
        *("-m", *pretraining, f"runs_dir={tmp_path}", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"),
        *("task.temperature=tag(log,interval(0.03,1))", f"{RATE}=tag(log,interval(0.0001,0.1))"),
        *("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=0"),
        *("hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "trainer.devices=2"),
        *("trainer.strategy=ddp", "encoder.norm=group"),
    ]
    assert run_as_process(arguments).wait(timeout=300) == 0
    points = read_points(tmp_path / ".sweeps" / PRETRAININGS)
    assert {point.status for point in points} == {"finished", "pruned"}
    for point in points:
        if point.status == "pruned":
            state = torch.load(point.run / "checkpoints" / "last.ckpt", weights_only=True)
            assert state["epoch"] == len(study_in(tmp_path, PRETRAININGS).trials[point.number].intermediate_values)


def test_weights_are_scored_by_the_last_epoch_s_measurement_alone(tmp_path):
    (tmp_path / "run.yaml").write_text("status: finished")
    metrics = "epoch,step,metric,value\n8,90,m,1\n9,99,m,2\n9,99,train/loss,5\n"
    (tmp_path / "metrics.csv").write_text(metrics)
    assert RunDirectory(tmp_path).validation_score("m") == 2
    (tmp_path / "metrics.csv").write_text(metrics.replace("9,99,m,2\n", ""))
    with pytest.raises(InputError, match="ended without measuring m; delete it"):
        RunDirectory(tmp_path).validation_score("m")
