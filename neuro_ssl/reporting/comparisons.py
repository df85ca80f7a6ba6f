"""Which of two models is better, by how much, and whether that is more than chance.

Two models are compared on the same test scans, with the same dataset, encoder and seed, both trained on this target
alone or both on several at once, by the task's primary metric; the verdict is the 95 % interval of the paired
difference (`evaluation.scores.difference`).
"""

import math
from dataclasses import dataclass
from typing import Literal

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.evaluation.scores import difference
from neuro_ssl.reporting.runs import DownstreamRun
from neuro_ssl.reporting.tables import TaskGroup, format_score

Verdict = Literal["first", "second", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """`first` against `second`; `difference` is first minus second of the primary metric."""

    question: str
    verdict: Verdict
    text: str
    difference: Score


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
    comparisons = [_against_baseline(group)]
    for question, first_kind, second_kind, first_name, second_name in PAIRS:
        firsts, seconds = (
            [run for run in group.runs if (run.results.protocol, run.results.initialisation) == kind]
            for kind in (first_kind, second_kind)
        )
        pairs = [(a, b) for a in firsts for b in seconds if _comparable(a, b)]
        for a, b in pairs:
            # Several seeds or several pretrained weights: say which.
            also = ", multi-task" if a.results.multitask else ""
            weights = a.info.weights if len(pairs) > 1 else None
            which = f" ({weights.name}, seed {a.info.seed}{also})" if weights else ""
            delta = _difference(group, a, b)
            scores = a.results.scores[group.primary].score, b.results.scores[group.primary].score
            comparisons.append(_decided(group, question, (first_name + which, second_name), scores, delta))
        if not pairs and (firsts or seconds):
            lacking = "with the same encoder and seed on both sides" if firsts and seconds else "of both sides"
            comparisons.append(
                Comparison(
                    question,
                    "undecided",
                    f"Not compared: {first_name} and {second_name} need finished runs {lacking}.",
                    Score(math.nan, math.nan, math.nan),
                )
            )
    return comparisons


def _comparable(a: DownstreamRun, b: DownstreamRun) -> bool:
    x, y = ((run.info.encoder.name, run.info.seed, run.results.multitask) for run in (a, b))
    return x == y


def _difference(group: TaskGroup, a: DownstreamRun, b: DownstreamRun) -> Score:
    try:
        return difference(a.predictions, b.predictions, group.kind, group.primary)
    except InputError as error:
        raise InputError(f"{a.path} and {b.path}: {error}") from error


def _against_baseline(group: TaskGroup) -> Comparison:
    """One line a model; verdict and difference are the first model's."""
    outcomes = []
    for run in group.runs:
        if group.kind == "classification":
            # A constant prediction has an AUROC of exactly 0.5, so the difference is as uncertain as the model's own.
            own = run.results.scores[group.primary].score
            delta = Score(own.value - 0.5, own.low - 0.5, own.high - 0.5)
        else:
            constant = run.predictions.assign(prediction=run.results.baseline.prediction)
            delta = difference(run.predictions, constant, group.kind, group.primary)
        outcomes.append((group.name(run), _verdict(group, delta), delta))
    words = {"first": "yes", "second": "no, worse", "undecided": "not shown"}
    unit = f" {group.unit}" if group.unit and group.kind == "regression" else ""
    lines = [f"{name}: {words[verdict]}, difference {format_score(delta)}{unit}" for name, verdict, delta in outcomes]
    baseline = "chance" if group.kind == "classification" else f"predicting the {group.runs[0].results.baseline.name}"
    label = group.metrics[group.primary].label
    _, verdict, delta = outcomes[0]
    return Comparison(f"Better than {baseline}, by {label}?", verdict, "\n".join(lines), delta)


def _verdict(group: TaskGroup, delta: Score) -> Verdict:
    if math.isnan(delta.low) or delta.low <= 0 <= delta.high:
        return "undecided"
    return "first" if (delta.value > 0) == group.metrics[group.primary].higher_is_better else "second"


def _decided(
    group: TaskGroup, question: str, names: tuple[str, str], scores: tuple[Score, Score], delta: Score
) -> Comparison:
    verdict = _verdict(group, delta)
    shown = delta
    if verdict == "second":  # the sentence starts with the better one, and so do its numbers
        names, scores, shown = names[::-1], scores[::-1], Score(-delta.value, -delta.high, -delta.low)
    unit = f" {group.unit}" if group.unit and group.kind == "regression" else ""
    numbers = (
        f"{group.metrics[group.primary].label} {scores[0].value:.2f} against {scores[1].value:.2f}{unit}, "
        f"difference {format_score(shown)}"
    )
    if math.isnan(delta.low):
        text = f"Undecided between {names[0]} and {names[1]}: {numbers} (no interval: too few subjects, or no spread)."
    elif verdict == "undecided":
        text = f"No significant difference between {names[0]} and {names[1]}: {numbers} (interval includes 0)."
    else:
        text = f"{names[0][0].upper()}{names[0][1:]} did better than {names[1]}: {numbers}."
    return Comparison(question, verdict, text, delta)
