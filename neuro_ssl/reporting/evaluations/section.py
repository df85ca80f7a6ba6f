"""What the page says of evaluations: for each task and test set the answer in words, then the figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting import prediction_figures
from neuro_ssl.reporting.agreement_figures import bland_altman, limits_of, predicted_vs_true
from neuro_ssl.reporting.cautions import FEW_SUBJECTS, few_subjects, learnt_from_labels
from neuro_ssl.reporting.evaluations import figures, forests, tables
from neuro_ssl.reporting.evaluations.files import files
from neuro_ssl.reporting.evaluations.lines import SHOWN, Line, colour_of, telling
from neuro_ssl.reporting.evaluations.reading import Evaluation, Evaluations, Tested
from neuro_ssl.reporting.evaluations.tables import Table
from neuro_ssl.reporting.evaluations.verdicts import QUESTIONS, Question, Verdict, verdict
from neuro_ssl.reporting.panel import Panel
from neuro_ssl.reporting.prediction_figures import Predicted
from neuro_ssl.reporting.section import Section


@dataclass(frozen=True)
class Fold:
    """What is shown when it is asked for: a heading, words, figures and a table.

    Attributes:
        kind: of the grid of figures.
        opened: shown at first.
    """

    title: str
    text: str = ""
    panels: Sequence[Panel] = ()
    table: Table | None = None
    kind: str = ""
    opened: bool = False


@dataclass(frozen=True)
class TestedPart:
    """What the page shows of one task on one test set."""

    tested: Tested
    verdicts: list[tuple[Question, Verdict]]
    by_encoder: Table | None
    scores: Panel
    folds: list[Fold]

    @property
    def panels(self) -> list[Panel]:
        """All of it."""
        return [self.scores, *(panel for fold in self.folds for panel in fold.panels)]


@dataclass(frozen=True)
class EvaluationPart:
    """What the page shows of one evaluation."""

    evaluation: Evaluation
    overview: Table | None
    tested: list[TestedPart]
    folds: list[Fold]

    @property
    def panels(self) -> list[Panel]:
        """All of it."""
        own = [panel for fold in self.folds for panel in fold.panels]
        return [*(panel for part in self.tested for panel in part.panels), *own]


def evaluation_section(evaluations: Evaluations) -> list[Section]:
    """The section; none if there is no evaluation.

    Args:
        evaluations: of the report.
    """
    if not evaluations.finished and not evaluations.unfinished:
        return []
    parts = [_part(evaluation) for evaluation in evaluations.finished]
    n = len(parts)
    data = {name: one for part in parts for name, one in part.evaluation.info.data.items()}
    content = {"parts": parts, "superseded": [path.name for path in evaluations.superseded]}
    return [
        Section(
            "evaluations",
            "Encoders compared",
            content,
            [panel for part in parts for panel in part.panels],
            [(part.evaluation.path.name, part.evaluation.title) for part in parts],
            warnings(evaluations),
            sorted(name for name, one in data.items() if one.simulated),
            sorted(name for name, one in data.items() if not one.simulated),
            [f"{n} evaluation{'s' if n != 1 else ''}"] if n else [],
            files(evaluations.finished),
        )
    ]


def warnings(evaluations: Evaluations) -> list[str]:
    """What a reader must know before any number, apart from data being simulated and test sets opened again."""
    lines = []
    for evaluation in evaluations.finished:
        name = evaluation.cohort.cohort
        for model in evaluation.encoders:
            if model.learnt_from:
                lines.append(f"Cohort {name}, {learnt_from_labels(model.name, model.learnt_from)}")
            for test_set, leakage in model.leakage.items():
                if leakage.verdict != "disjoint":
                    lines.append(f"Cohort {name}, {model.name}, test set {test_set}: {leakage}.")
        few: dict[int, list[str]] = {}
        for tested in evaluation.tested:
            few.setdefault(tested.count("n_subjects"), []).append(f"{tested.title} ({tested.where})")
        for n, titles in few.items():
            if n < FEW_SUBJECTS:
                lines.append(few_subjects(n, ", ".join(titles), name))
        for cohort, ids in evaluation.info.left_out.items():
            lines.append(f"Cohort {cohort}: {len(ids)} scans that not every model can be given are left out.")
        if evaluation.info.dirty:
            lines.append(
                f"Evaluated with uncommitted changes, so that the commit doesn't identify the code: "
                f"{evaluation.path.parent.name}."
            )
    for path in evaluations.unfinished:
        lines.append(
            f"Unfinished and left out: {path.parent.name}/{path.name}. The same command again continues it; it is in "
            "its evaluation.yaml."
        )
    return list(dict.fromkeys(lines))


def _part(evaluation: Evaluation) -> EvaluationPart:
    return EvaluationPart(
        evaluation,
        tables.overview(evaluation) if evaluation.encoders else None,
        [_tested_part(tested) for tested in evaluation.tested],
        _stability(evaluation),
    )


def _tested_part(tested: Tested) -> TestedPart:
    lines = telling(tested)
    folds = [Fold("All scores", table=tables.scores(tested))]
    if len(tested.table("comparisons")):
        text = (
            "First model minus second, on the same people; ▲ and ▼: better and worse, holding after Holm's correction "
            "for all comparisons of this table (p, Holm below 0.05); ○: not shown, which isn't the same as equal."
        )
        folds.append(Fold("All comparisons", text, table=tables.comparisons(tested)))
    if efficiency := tables.label_efficiency(tested):
        folds.append(Fold("Label efficiency", "", figures.label_efficiency(tested), efficiency, opened=True))
    if lines:
        folds.append(Fold("Predictions", SHOWN, _predictions(tested, lines)))
    if lines and len(tested.table("subgroups")):
        few = [line for line in lines if line.role in ("pretrained", "image_statistics")]
        folds.append(Fold("Subgroups", "", [forests.subgroups(tested, few or lines)], tables.subgroups(tested), "wide"))
    if len(tested.table("age_gap")):
        text = (
            "Prediction less age. The corrected prediction contains the true age, so its error is no accuracy, and "
            "none is given."
        )
        folds.append(Fold("Age gap", text, [forests.age_gap(tested)], tables.age_gap(tested), "wide"))
    encoders = tested.evaluation.encoders
    return TestedPart(
        tested,
        [(question, verdict(tested, question)) for question in QUESTIONS] if encoders else [],
        tables.by_encoder(tested) if len(encoders) > 1 else None,
        figures.scores(tested),
        folds,
    )


def _predictions(tested: Tested, lines: Sequence[Line]) -> list[Panel]:
    """Curves of a classification, clouds of a regression; by the predictions of full label sets on test scans."""
    title = f"{tested.title}, cohort {tested.evaluation.cohort.cohort}, {tested.where}"
    models = [_predicted(tested, line) for line in lines]
    if tested.kind == "classification":
        return [
            prediction_figures.roc(title, models, tested.positive),
            prediction_figures.precision_recall(title, models, tested.positive),
            figures.calibration(tested, lines),
        ]
    limits, unit = limits_of(models), tested.unit or None
    clouds = [predicted_vs_true(title, model, limits, unit, tested.label()) for model in models]
    shown = [model for model, line in zip(models, lines, strict=True) if line.role == "pretrained"] or models[:1]
    agreement = [bland_altman(title, model, unit) for model in shown]
    return [*clouds, *agreement]


def _predicted(tested: Tested, line: Line) -> Predicted:
    predictions = tested.evaluation.predictions
    here = predictions[predictions["task"].eq(tested.task) & predictions["test_set"].eq(tested.test_set)]
    score = line.of(tested.table("scores").query("metric == @tested.primary")).iloc[0]
    colour = colour_of(tested.evaluation, line.model)[0]
    table = line.of(here).reset_index(drop=True)
    return Predicted(line.label, colour, table, Score(score["value"], score["low"], score["high"]))


def _stability(evaluation: Evaluation) -> list[Fold]:
    folds = []
    for name, make, figure, title in (
        ("reliability", tables.reliability, forests.reliability, "Reliability when a person is scanned again"),
        ("site", tables.site, forests.site, "What embeddings know of the site"),
    ):
        if name in evaluation.tables:
            for cohort in evaluation.tables[name]["cohort"].unique():
                panel = figure(evaluation, cohort)
                several = f" (cohort {cohort})" if len(evaluation.info.data) > 1 else ""
                folds.append(Fold(title + several, "", [panel] if panel else [], make(evaluation, cohort), "wide"))
    return folds
