"""Which runs belong together: those of one task on one dataset, and of these the ones that differ by seed alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from neuro_ssl.data.targets import Reference
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Metric
from neuro_ssl.evaluation.scores import over_replicates, score_predictions
from neuro_ssl.reporting.runs.differences import differences, flat
from neuro_ssl.reporting.runs.reading import DownstreamRun
from neuro_ssl.reporting.runs.records import Dataset
from neuro_ssl.run_names import ELSEWHERE, ELSEWHERE_IN

PROTOCOLS = ("finetune", "from_scratch", "linear_probe")  # in the order of the tables
OF_ANY_COLUMN = ("classification", "regression")  # tasks that are named by what they learn
SETTINGS_IN_A_NAME = 3


@dataclass(frozen=True)
class Model:
    """One way of training, from one encoder, under one or several seeds. Never empty."""

    name: str
    runs: list[DownstreamRun]

    @property
    def kind(self) -> tuple[str, str, bool]:
        """What tables and figures order and colour by: protocol, initialisation, whether of several targets."""
        results = self.runs[0].results
        return results.protocol, results.initialisation, results.multitask

    @property
    def seeds(self) -> list[int]:
        """One a run."""
        return [run.info.seed for run in self.runs]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Those of the test split, one row a scan; of several seeds one a scan and seed, its `replicate`."""
        if len(self.runs) == 1:
            return self.runs[0].predictions
        return pd.concat([run.predictions.assign(replicate=run.info.seed) for run in self.runs], ignore_index=True)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The run's scores; of several seeds their mean, with an interval over subjects as of a single run."""
        if len(self.runs) == 1:
            return {name: interval.score for name, interval in self.runs[0].results.scores.items()}
        return score_predictions(self.predictions, self.runs[0].results.kind)

    def over_seeds(self, metric: str) -> Score:
        """Mean and 95 % t interval over seeds; without interval for fewer than three."""
        return over_replicates([run.results.scores[metric].score.value for run in self.runs])


@dataclass(frozen=True)
class TaskGroup:
    """The runs of one task on one dataset: their scores are comparable. Never empty."""

    dataset: Dataset
    task: str
    kind: Kind
    unit: str | None
    runs: list[DownstreamRun]

    @property
    def title(self) -> str:
        """The task in words."""
        title = self.task.replace("_", " ").capitalize()
        return f"{title} of {self.runs[0].results.target}" if self.task in OF_ANY_COLUMN else title

    @property
    def reference(self) -> Reference | None:
        """The paper's score on this task."""
        return next((run.results.reference for run in self.runs if run.results.reference), None)

    @cached_property
    def models(self) -> list[Model]:
        """The runs by what else they differ in than their seed, in the order of `runs`."""
        members: dict[str, list[DownstreamRun]] = {}
        for run in self.runs:
            key = _identity(run)
            if run.info.seed in [other.info.seed for other in members.get(key, [])]:  # one run in two folders
                key += str(run.path)
            members.setdefault(key, []).append(run)
        return [Model(name, runs) for name, runs in zip(_names(list(members.values())), members.values(), strict=True)]

    @property
    def metrics(self) -> dict[str, Metric]:
        """Those that any run's results hold (older ones hold fewer), the primary one first."""
        held = {name for run in self.runs for name in run.results.scores}
        return {name: m for name, m in METRICS[self.kind].items() if name in held}

    @property
    def primary(self) -> str:
        """The metric that models are compared by."""
        return PRIMARY[self.kind]

    def label(self, metric: str) -> str:
        """Name with unit, such as `MAE (years)`."""
        m = METRICS[self.kind][metric]
        return f"{m.label} ({self.unit})" if m.in_target_unit and self.unit else m.label

    def name(self, run: DownstreamRun) -> str:
        """A run's name within this group: its model's, and the seed if that has several."""
        model = next(model for model in self.models if any(member is run for member in model.runs))
        return f"{model.name} (seed {run.info.seed})" if len(model.runs) > 1 else model.name


def group_by_task(runs: list[DownstreamRun]) -> list[TaskGroup]:
    """Groups of comparable runs, by cohort, grid, split and manifest, then task and target.

    Runs by protocol, whether of several targets, weights and seed.
    """
    groups: dict[tuple[str, ...], list[DownstreamRun]] = {}
    for run in runs:
        what = (run.results.task, run.results.target, run.results.kind, str(run.results.positive_class))
        groups.setdefault((*run.info.dataset.key, *what), []).append(run)
    ordered = []
    for _, members in sorted(groups.items(), key=lambda item: (_place(item[1][0]), item[0])):
        members.sort(
            key=lambda run: (
                PROTOCOLS.index(run.results.protocol),
                run.results.initialisation,
                run.results.multitask,
                _weights(run),
                run.info.encoder.name,
                run.info.seed,
            )
        )
        first = members[0]
        ordered.append(
            TaskGroup(first.info.dataset, first.results.task, first.results.kind, first.results.unit, members)
        )
    return ordered


def _place(run: DownstreamRun) -> tuple[str, str, str]:
    """Before the hashes, what readers know a dataset by."""
    return run.info.dataset.cohort, run.info.dataset.grid, run.info.dataset.split


def _weights(run: DownstreamRun) -> str:
    return run.info.weights.name if run.info.weights else ""


def _identity(run: DownstreamRun) -> str:
    """What runs of one model share: all that affects a result, but for the seed."""
    settings = {
        key: value
        for key, value in flat(run.info.config).items()
        if (parts := key.split("."))[0] not in ELSEWHERE | {"seed"}
        and (len(parts) == 1 or parts[1] not in ELSEWHERE_IN.get(parts[0], set()))
    }
    return str((run.model, _weights(run), run.info.encoder.name, sorted(settings.items())))


def _names(models: Sequence[Sequence[DownstreamRun]]) -> list[str]:
    """How each came about, in words; of several alike with what tells them apart."""
    firsts = [runs[0] for runs in models]
    names = [run.model for run in firsts]
    for name in [name for name, n in Counter(names).items() if n > 1]:
        alike = [i for i, run in enumerate(firsts) if run.model == name]
        runs = [firsts[i] for i in alike]
        encoders = {run.info.encoder.name for run in runs}
        columns = [[_weights(run) for run in runs], [run.info.encoder.name for run in runs]]
        ignored = {"seed", *ELSEWHERE, *(("encoder",) if len(encoders) > 1 else ())}
        settings = [
            [f"{key}={text}" for text in texts]
            for key, texts in differences([run.info.config for run in runs]).items()
            if key.split(".")[0] not in ignored
        ]
        columns = [column for column in columns if len(set(column)) > 1] + settings[:SETTINGS_IN_A_NAME]
        for i, *words in zip(alike, *columns, strict=True):
            names[i] = f"{name} ({', '.join(words)})" if words else name
    repeated = Counter(names)
    return [f"{name} [{_short(run)}]" if repeated[name] > 1 else name for name, run in zip(names, firsts, strict=True)]


def _short(run: DownstreamRun) -> str:
    """The digits of a run's name."""
    return run.info.name.rpartition("-")[2]
