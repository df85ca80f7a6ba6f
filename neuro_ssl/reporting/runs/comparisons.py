"""Which of two models is better, by how much, and whether that is more than chance.

Two models are compared on the same test scans, with the same dataset, encoder and seeds, both trained on this target
alone or both on several at once, by the task's primary metric; of several seeds by its mean. The verdict is the 95 %
interval of the paired difference; the p value beside it (`evaluation.comparisons`) is also given after Holm's
correction over the comparisons of the task.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation import comparisons as tests
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.scores import difference
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.runs.models import Model, TaskGroup
from neuro_ssl.reporting.runs.tables import UNDEFINED

Verdict = Literal["first", "second", "undecided"]
ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """`first` against `second`; `difference` is first minus second of the primary metric.

    Attributes:
        question: in words.
        verdict: by the interval of the difference.
        text: the answer in words, with numbers.
        difference: with its 95 % interval.
        first: the model's name.
        second: its counterpart's; empty where no two models are compared.
        p: two-sided; nan without a test.
        p_holm: after Holm's correction over the task's comparisons.
        test: that p is from.
    """

    question: str
    verdict: Verdict
    text: str
    difference: Score
    first: str = ""
    second: str = ""
    p: float = math.nan
    p_holm: float = math.nan
    test: str = ""

    @property
    def style(self) -> Verdict:
        """The verdict as the page colours it: only what a test, if there is one, confirms after correction."""
        return "undecided" if self.p_holm >= ALPHA else self.verdict


# question; the two sides as (protocol, initialisation); how a sentence names them
PAIRS = (
    (
        "Pretrained or untrained features?",
        ("linear_probe", "pretrained"),
        ("linear_probe", "untrained"),
        "the pretrained encoder's frozen features",
        "the untrained encoder's frozen features",
    ),
    (
        "Fine-tuning or training from scratch?",
        ("finetune", "pretrained"),
        ("from_scratch", "untrained"),
        "fine-tuning the pretrained encoder",
        "training from scratch",
    ),
)


def compare(group: TaskGroup) -> list[Comparison]:
    """All models against the baseline, then the pairs of `PAIRS`, in the words of the summary."""
    pairs = [_pairs(group, first, second) for _, first, second, *_ in PAIRS]
    found = [_tested(group, a, b) for of_question in pairs for a, b in of_question]
    holm = iter(tests.holm([one.p for one in found]))
    outcomes = iter(found)
    comparisons = [_against_baseline(group)]
    for (question, first_kind, second_kind, *names), of_question in zip(PAIRS, pairs, strict=True):
        for a, b in of_question:
            comparisons.append(_decided(group, question, (a, b), tuple(names), next(outcomes), next(holm)))
        sides = [any(model.kind[:2] == kind for model in group.models) for kind in (first_kind, second_kind)]
        if not of_question and any(sides):
            lacking = "with the same encoder and seed on both sides" if all(sides) else "of both sides"
            text = f"Not compared: {names[0]} and {names[1]} need finished runs {lacking}."
            comparisons.append(Comparison(question, "undecided", text, UNDEFINED))
    return comparisons


def significance(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """By a model's name what its row in a table says: `0.012 * (From scratch)`; the corrected p value."""
    said: dict[str, list[str]] = {}
    for pair in comparisons:
        if pair.second:
            mark = " *" if pair.p_holm < ALPHA else ""
            said.setdefault(pair.first, []).append(f"{format_p(pair.p_holm)}{mark} ({pair.second})")
    return {name: "; ".join(texts) for name, texts in said.items()}


def format_p(p: float) -> str:
    """`0.012`, `< 0.001`, `n/a`."""
    if math.isnan(p):
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _pairs(group: TaskGroup, first: tuple[str, str], second: tuple[str, str]) -> list[tuple[Model, Model]]:
    """The models of two kinds that share encoder and seeds, each cut down to the seeds that both have."""
    firsts, seconds = ([m for m in group.models if m.kind[:2] == kind] for kind in (first, second))
    pairs = []
    for a in firsts:
        for b in seconds:
            seeds = set(a.seeds) & set(b.seeds)
            alike = a.kind[2] == b.kind[2] and a.runs[0].info.encoder.name == b.runs[0].info.encoder.name
            if alike and seeds:
                pairs.append((_with_seeds(a, seeds), _with_seeds(b, seeds)))
    return pairs


def _with_seeds(model: Model, seeds: set[int]) -> Model:
    if set(model.seeds) == seeds:
        return model
    return Model(model.name, [run for run in model.runs if run.info.seed in seeds])


def _against_baseline(group: TaskGroup) -> Comparison:
    """One line a model; the verdict is what all have in common, the difference the first model's."""
    outcomes = []
    for model in group.models:
        if group.kind == "classification":
            # A constant prediction has an AUROC of exactly 0.5, so the difference is as uncertain as the model's own.
            own = model.scores[group.primary]
            delta = Score(own.value - 0.5, own.low - 0.5, own.high - 0.5)
        else:
            first = model.runs[0]
            constant = first.predictions.assign(prediction=first.results.baseline.prediction)
            delta = difference(model.predictions, constant, group.kind, group.primary)
        outcomes.append((model.name, _verdict(group, delta), delta))
    words = {"first": "yes", "second": "no, worse", "undecided": "not shown"}
    unit = f" {group.unit}" if group.unit and group.kind == "regression" else ""
    lines = [f"{name}: {words[verdict]}, difference {format_score(delta)}{unit}" for name, verdict, delta in outcomes]
    baseline = "chance" if group.kind == "classification" else f"predicting the {group.runs[0].results.baseline.name}"
    label = group.metrics[group.primary].label
    (_, verdict, delta), *others = outcomes
    if any(other != verdict for _, other, _ in others):
        verdict = "undecided"
    return Comparison(f"Better than {baseline}, by {label}?", verdict, "\n".join(lines), delta)


def _verdict(group: TaskGroup, delta: Score) -> Verdict:
    if math.isnan(delta.low) or delta.low <= 0 <= delta.high:
        return "undecided"
    return "first" if (delta.value > 0) == group.metrics[group.primary].higher_is_better else "second"


def _decided(
    group: TaskGroup,
    question: str,
    models: tuple[Model, Model],
    names: tuple[str, ...],
    delta: tests.Comparison,
    p_holm: float,
) -> Comparison:
    a, b = models
    verdict = _verdict(group, delta)
    seeds = f", mean of {len(a.runs)} seeds" if len(a.runs) > 1 else ""
    # Several of a kind: say which.
    sides = [
        name + (f" ({model.name.partition('(')[2]}" if "(" in model.name else "")
        for name, model in zip(names, models, strict=True)
    ]
    scores = [model.scores[group.primary].value for model in models]
    shown = Score(delta.value, delta.low, delta.high)
    if verdict == "second":  # the sentence starts with the better one, and so do its numbers
        sides, scores, shown = sides[::-1], scores[::-1], Score(-delta.value, -delta.high, -delta.low)
    unit = f" {group.unit}" if group.unit and group.kind == "regression" else ""
    numbers = (
        f"{group.metrics[group.primary].label}{seeds} {scores[0]:.2f} against {scores[1]:.2f}{unit}, "
        f"difference {format_score(shown)}"
    )
    if math.isnan(delta.low):
        text = f"Undecided between {sides[0]} and {sides[1]}: {numbers} (no interval: too few subjects, or no spread)."
    elif verdict == "undecided":
        text = f"No significant difference between {sides[0]} and {sides[1]}: {numbers} (interval includes 0)"
        text += f", {_p_in_words(delta, p_holm)}."
    else:
        text = f"{sides[0][0].upper()}{sides[0][1:]} did better than {sides[1]}: {numbers}, "
        text += f"{_p_in_words(delta, p_holm)}."
        if delta.p >= ALPHA:
            text += " By that test it is not significant, so take it as open."
        elif p_holm >= ALPHA:
            text += " Of all comparisons of this task together that is not significant."
    return Comparison(question, verdict, text, delta, a.name, b.name, delta.p, p_holm, delta.test)


def _p_in_words(delta: tests.Comparison, p_holm: float) -> str:
    if math.isnan(delta.p):
        return "without a p value: too few subjects for a test"
    p, corrected = format_p(delta.p), format_p(p_holm)
    equals = "" if p.startswith("<") else "= "
    return f"p {equals}{p} ({delta.test}{'' if corrected == p else f', corrected {corrected}'})"


def _tested(group: TaskGroup, a: Model, b: Model) -> tests.Comparison:
    try:
        return tests.compare(a.predictions, b.predictions, group.kind, group.primary)
    except InputError as error:
        raise InputError(f"{a.runs[0].path} and {b.runs[0].path}: {error}") from error
