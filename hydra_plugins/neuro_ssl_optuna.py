"""`hydra/sweeper=optuna`: a search by Optuna's samplers and pruners, with its study on file, so that it can go on.

(hydra-optuna-sweeper stopped at Optuna 2; it has no pruner, and begins to count anew where a search goes on.)

The study lies in the sweep's folder, `runs/.sweeps/<study_name>`. `n_trials` is what the study is to have in all. The
same command again takes up the trials that a kill left unfinished, whose runs go on from their checkpoints, gives
those that failed another try, and then does the missing ones. On one job at a time its choices don't depend on kills:
the sampler's seed comes from `sampler.seed` and the trial's place.

Hydra reads this module in every command; Optuna is imported when it searches.
"""

import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

OVERRIDES, AGAIN = "overrides", "again"  # attributes of trials: their settings; which failed one they try again
BETTER = {"min": "smaller", "max": "larger"}


class OptunaSweeper(Sweeper):
    """Asks Optuna for points, has Hydra's launcher run them, and tells Optuna what they came to.

    Args:
        study_name: names the study and its folder.
        storage: URL of Optuna's database.
        n_trials: of the study in all, those of earlier starts included.
        n_jobs: trials that are launched at a time.
        params: what is searched or fixed, in Hydra's sweep syntax, by key; the command line comes after it.
        sampler: an Optuna sampler with its `seed`.
        pruner: an Optuna pruner.
        trial: for the points, which one each is.
    """

    def __init__(
        self,
        study_name: str,
        storage: str,
        n_trials: int,
        n_jobs: int,
        params: DictConfig | None,
        sampler: DictConfig,
        pruner: DictConfig,
        trial: int | None,
    ) -> None:
        self.study_name, self.storage, self.n_trials, self.n_jobs = study_name, storage, n_trials, n_jobs
        self.sampler, self.params = sampler, {str(key): value for key, value in (params or {}).items()}
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's first call."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search, or go on searching.

        Raises:
            InputError: the search cannot begin; before its first trial.
        """
        from neuro_ssl.errors import InputError
        from neuro_ssl.files import held
        from neuro_ssl.studies import as_overrides, corner, read_space, score_to_search_by, settings_of

        try:
            import optuna
        except ImportError as error:
            raise InputError("hydra/sweeper=optuna needs Optuna: pip install 'neuro_ssl[optuna]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # before 5: constant_liar
        for key in ("n_trials", "n_jobs"):
            if not isinstance(value := getattr(self, key), int) or value < 1:
                raise InputError(f"hydra.sweeper.{key} must be a whole number of at least 1, got {value}")
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise InputError(
                "a search is run by one process: leave torchrun out, its points get processes of their own"
            )

        assert self.config is not None
        assert self.hydra_context is not None
        self.goal = score_to_search_by(self.config)
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        self.space, self.fixed = read_space(parser.parse_overrides(given))
        self.validate_batch_is_legal([[*self.fixed, *as_overrides(corner(self.space))]])
        settings = settings_of(self.config, self.space, self.goal)

        folder = Path(self.config.hydra.sweep.dir)
        with held(folder, work="runs this search", elsewhere="choose another runs_dir"):
            self.study = self._open(settings)
            OmegaConf.save(self.config, folder / "multirun.yaml")
            self._prepare(folder)
            while batch := self._next():
                self._launch(batch, folder)
            self._tell_best()

    def _open(self, settings: dict[str, str]) -> Any:
        """The study, whether or not it is there already; one of other settings is refused."""
        import optuna

        from neuro_ssl.studies import open_storage, refuse_other_settings

        metric, mode = self.goal
        study = optuna.create_study(
            storage=open_storage(self.storage),
            study_name=self.study_name,
            direction="minimize" if mode == "min" else "maximize",
            load_if_exists=True,
        )
        if before := study.user_attrs.get("settings"):
            refuse_other_settings(self.study_name, before, settings)
        else:
            study.set_user_attr("settings", settings)
        done = f"; {n} of them began before" if (n := len(self._counted(study))) else ""
        print(f"search {self.study_name}: {self.n_trials} trials by {metric}, the {BETTER[mode]} the better{done}")
        return study

    @staticmethod
    def _counted(study: Any) -> list[Any]:
        """The trials that make up the study: all that got settings, a second try in place of its first."""
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if OVERRIDES in trial.user_attrs]
        to_come = [trial for trial in trials if trial.state == TrialState.WAITING]
        replaced = {trial.user_attrs.get(AGAIN) for trial in begun + to_come}
        return [trial for trial in begun if trial.number not in replaced]

    def _prepare(self, folder: Path) -> None:
        """Put in order what earlier starts left: trials without all of their settings, and trials that failed."""
        from optuna.trial import TrialState

        from neuro_ssl.points import Point

        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if OVERRIDES not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
        for trial in self._counted(self.study):
            if trial.state == TrialState.FAIL:
                Point(folder, trial.number).forget()
                self.study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})

    def _next(self) -> list[Any]:
        """The trials to launch now: those that a kill left unfinished, which have successive numbers, then new ones."""
        from optuna.trial import TrialState

        from neuro_ssl.config import build, plain
        from neuro_ssl.studies import as_overrides

        left = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        if left:
            return [trial for i, trial in enumerate(left[: self.n_jobs]) if trial.number == left[0].number + i]
        sampler = plain(self.sampler)
        seed, asked = sampler.pop("seed"), []
        done = len(self._counted(self.study))
        for place in range(done, min(done + self.n_jobs, self.n_trials)):
            self.study.sampler = build(sampler, seed=random.Random(f"{seed} {place}").getrandbits(32))
            trial = self.study.ask(self.space)
            trial.set_user_attr(OVERRIDES, as_overrides(trial.params))
            asked.append(trial)
        return asked

    def _launch(self, trials: Sequence[Any], folder: Path) -> None:
        """Run them, each as the point of its number, and tell Optuna."""
        from optuna.trial import TrialState

        from neuro_ssl.points import read_points
        from neuro_ssl.studies import is_score

        assert self.launcher is not None
        points = [[*self.fixed, *t.user_attrs[OVERRIDES], f"hydra.sweeper.trial={t.number}"] for t in trials]
        jobs = self.launcher.launch(points, initial_job_idx=trials[0].number)
        status = {point.number: point.status for point in read_points(folder)}
        for trial, job in zip(trials, jobs, strict=True):
            score = job.return_value
            if status.get(trial.number) == "pruned":
                self.study.tell(trial.number, state=TrialState.PRUNED)
                print(f"trial {trial.number}: pruned")
            elif is_score(score):
                self.study.tell(trial.number, score)
                print(f"trial {trial.number}: {score:.4g}; best so far {self.study.best_value:.4g}")
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
                print(f"trial {trial.number}: failed")

    def _tell_best(self) -> None:
        """What was found; the sweep's table comes after it."""
        from optuna.trial import TrialState

        trials = self._counted(self.study)
        states = (("complete", TrialState.COMPLETE), ("pruned", TrialState.PRUNED), ("failed", TrialState.FAIL))
        counts = ", ".join(f"{n} {name}" for name, state in states if (n := sum(t.state == state for t in trials)))
        print(f"search {self.study_name}: {len(trials)} trials, {counts}")
        if any(trial.state == TrialState.COMPLETE for trial in trials):
            best = self.study.best_trial
            settings = " ".join(best.user_attrs[OVERRIDES])
            print(f"  best: trial {best.number}, {self.goal[0]} {best.value:.4g}: {settings}")
        else:
            print("  none came to a score; put right what the errors say, and the same command tries again")
