"""Results as tables: tidy for machines (CSV), one table a task for people (Markdown, HTML)."""

import math
from dataclasses import dataclass

import pandas as pd

from neuro_ssl.data.targets import Reference
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Metric
from neuro_ssl.reporting.records import Dataset
from neuro_ssl.reporting.runs import DownstreamRun

UNDEFINED = Score(math.nan, math.nan, math.nan)
DETAILS = ("Weights", "Encoder", "Seed", "Leakage", "Test scans (subjects)")
PROTOCOLS = ("finetune", "from_scratch", "linear_probe")  # in the order of the tables
OF_ANY_COLUMN = ("classification", "regression")  # tasks that are named by what they learn
PAPER = "Rows “Paper”: what Kaczmarek et al. 2025 report, on their own test scans, not on these; without intervals."


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

    @property
    def metrics(self) -> dict[str, Metric]:
        """Those that any run's results hold (older ones hold fewer), the primary one first."""
        held = {name for run in self.runs for name in run.results.scores}
        return {name: m for name, m in METRICS[self.kind].items() if name in held}

    @property
    def primary(self) -> str:
        """The metric that models are compared by."""
        return PRIMARY[self.kind]

    @property
    def several_seeds(self) -> bool:
        """Whether a model must be told apart by its seed."""
        return len({run.info.seed for run in self.runs}) > 1

    def label(self, metric: str) -> str:
        """Name with unit, such as `MAE (years)`."""
        m = METRICS[self.kind][metric]
        return f"{m.label} ({self.unit})" if m.in_target_unit and self.unit else m.label

    def name(self, run: DownstreamRun) -> str:
        """A model's name within this group."""
        return f"{run.model} (seed {run.info.seed})" if self.several_seeds else run.model


@dataclass(frozen=True)
class Row:
    """One line of a task's table."""

    model: str
    scores: list[Score]
    details: list[str]  # as named by DETAILS
    run: DownstreamRun | None  # None: the baseline, or the paper
    is_paper: bool = False


def group_by_task(runs: list[DownstreamRun]) -> list[TaskGroup]:
    """Groups of comparable runs, by cohort, manifest and grid, then task and target.

    Runs by protocol, whether of several targets, weights and seed.
    """
    groups: dict[tuple[str, ...], list[DownstreamRun]] = {}
    for run in runs:
        what = (run.results.task, run.results.target, run.results.kind, str(run.results.positive_class))
        groups.setdefault((*run.info.dataset.key, *what), []).append(run)
    ordered = []
    for _, members in sorted(groups.items()):
        members.sort(
            key=lambda run: (
                PROTOCOLS.index(run.results.protocol),
                run.results.initialisation,
                run.results.multitask,
                run.info.weights.name if run.info.weights else "",
                run.info.encoder.name,
                run.info.seed,
            )
        )
        first = members[0]
        ordered.append(
            TaskGroup(first.info.dataset, first.results.task, first.results.kind, first.results.unit, members)
        )
    return ordered


def task_rows(group: TaskGroup) -> list[Row]:
    """The models of a task, the baseline and, last, the paper's; scores in the order of `group.metrics`."""
    rows = []
    for run in group.runs:
        weights = run.info.weights.name if run.info.weights else "none"
        if run.info.covariates:  # in no comparison with pretraining that saw none
            weights += f" (labels: {', '.join(run.info.covariates)})"
        n_test = f"{run.results.n_test_scans} ({run.results.n_test_subjects})"
        details = [weights, run.info.encoder.name, str(run.info.seed), leakage_verdict(run), n_test]
        rows.append(Row(run.model, [_score(run.results.scores, name) for name in group.metrics], details, run))
    baseline = group.runs[0].results.baseline
    scores = [_score(baseline.scores, name) for name in group.metrics]
    rows.append(Row(f"Baseline: {baseline.name}", scores, ["", "", "", "", rows[0].details[-1]], None))
    return rows + _paper_rows(group)


def baseline_row(rows: list[Row]) -> Row:
    """That of the baseline, of a task's rows."""
    return next(row for row in rows if row.run is None)


def _paper_rows(group: TaskGroup) -> list[Row]:
    reference = group.reference
    if reference is None:
        return []
    cohort = reference.cohort.upper()
    same = reference.cohort == group.dataset.cohort
    whose = f"the paper's own split of {cohort}" if same else f"another test set ({cohort})"
    return [
        Row(
            f"Paper ({how}, {cohort})",
            [Score(value, math.nan, math.nan) if name == reference.metric else UNDEFINED for name in group.metrics],
            ["", "", "", "", whose],
            None,
            is_paper=True,
        )
        for how, value in (("fine-tuned SimCLR", reference.fine_tuned), ("from scratch", reference.from_scratch))
        if value is not None
    ]


def leakage_verdict(run: DownstreamRun) -> str:
    """`disjoint`, `overlapping` or `unknown`; for runs of a version that did not look, `not checked`."""
    return run.results.leakage.verdict if run.results.leakage else "not checked"


def leaking(groups: list[TaskGroup]) -> list[str]:
    """A line for each run whose encoder has seen validation or test subjects, or may have."""
    return [
        f"{group.title}, {group.name(run)} ({run.info.name}): {run.results.leakage}."
        for group in groups
        for run in group.runs
        if run.results.leakage and run.results.leakage.verdict != "disjoint"
    ]


def reopened(groups: list[TaskGroup]) -> list[str]:
    """A line for each run whose test split was opened more than once."""
    return [
        f"{group.title}, {group.name(run)} ({run.info.name}): the test split was opened {len(times)} times, at "
        f"{', '.join(times)}."
        for group in groups
        for run in group.runs
        if len(times := run.results.test_opened) > 1
    ]


def tidy_results(groups: list[TaskGroup]) -> pd.DataFrame:
    """One row a run and metric, at full precision; baselines, and the paper's scores, included."""
    rows = []
    for group in groups:
        for run in group.runs:
            results, info = run.results, run.info
            common = {
                "cohort": info.dataset.cohort,
                "simulated": info.dataset.simulated,
                "grid": info.dataset.grid,
                "manifest_hash": info.dataset.manifest_hash,
                "split_hash": info.dataset.split_hash,
                "split": info.dataset.split,
                "task": results.task,
                "target": results.target,
                "run": info.name,
                "multitask": results.multitask,
                "seed": info.seed,
                "n_test_scans": results.n_test_scans,
                "n_test_subjects": results.n_test_subjects,
            }
            model = {
                "protocol": results.protocol,
                "initialisation": results.initialisation,
                "weights": info.weights.name if info.weights else "",
                "encoder": info.encoder.name,
                "leakage": leakage_verdict(run),
            }
            baseline = dict.fromkeys(model, "") | {"protocol": "baseline"}
            for kind, scores in ((model, results.scores), (baseline, results.baseline.scores)):
                for metric in group.metrics:
                    score = _score(scores, metric)
                    rows.append(
                        common
                        | kind
                        | {
                            "metric": metric,
                            "unit": group.unit if group.metrics[metric].in_target_unit else "",
                            "value": score.value,
                            "low": score.low,
                            "high": score.high,
                        }
                    )
        rows += _tidy_reference(group)
    return pd.DataFrame(rows)


def _tidy_reference(group: TaskGroup) -> list[dict[str, object]]:
    """The paper's scores, which belong to its cohort and to no run."""
    reference = group.reference
    if reference is None:
        return []
    common = {"cohort": reference.cohort, "task": group.task, "target": group.runs[0].results.target}
    unit = group.unit if METRICS[group.kind][reference.metric].in_target_unit else ""
    return [
        common | {"protocol": f"paper_{how}", "metric": reference.metric, "unit": unit, "value": value}
        for how, value in (("finetune", reference.fine_tuned), ("from_scratch", reference.from_scratch))
        if value is not None
    ]


def markdown(groups: list[TaskGroup]) -> str:
    """One padded table a task: readable as Markdown and in a terminal."""
    blocks = []
    for group in groups:
        header = ["Model", *map(group.label, group.metrics), *DETAILS]
        body = [[row.model, *map(format_score, row.scores), *row.details] for row in task_rows(group)]
        title = f"### {group.title}: {group.dataset.title}"
        blocks.append(f"{title}\n\n{padded([header, *body])}\n")
    notes = "".join(f"\n{line}\n" for line in leaking(groups) + reopened(groups))
    paper = f" {PAPER}" if any(group.reference for group in groups) else ""
    return "\n".join(blocks) + f"\nTest split; 95 % intervals by bootstrap over subjects.{paper}\n{notes}"


def format_score(score: Score) -> str:
    """`5.12 [4.30, 6.01]`; n/a where undefined."""
    if math.isnan(score.value):
        return "n/a"
    value, low, high = (f"{x:z.2f}" for x in (score.value, score.low, score.high))  # z: 0.00, not -0.00
    return value if math.isnan(score.low) else f"{value} [{low}, {high}]"


def _score(scores: object, metric: str) -> Score:
    interval = scores.get(metric) if isinstance(scores, dict) else None
    return interval.score if interval else UNDEFINED


def padded(rows: list[list[str]]) -> str:
    """A Markdown table that is aligned as it stands; the first row is its header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows
    )
