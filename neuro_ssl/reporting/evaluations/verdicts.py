"""What an evaluation says of pretraining, in words: does it help here, by how much, and how sure is that.

Three questions, each answered by the comparisons that the evaluation made (`comparisons.csv`), those of one task and
test set corrected for each other by Holm's method: a comparison counts if its corrected p is below 0.05.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from neuro_ssl.evaluation.bootstrap import Score
from neuro_ssl.reporting.cells import format_score
from neuro_ssl.reporting.evaluations.reading import Tested

SIGNIFICANT = 0.05
Call = Literal["better", "worse", "not shown"]
Answer = Literal["better", "partly better", "worse", "partly worse", "mixed", "not shown", "not compared"]
SIGNS: dict[Answer, str] = {  # for those who don't see colours
    "better": "▲",
    "partly better": "▲",
    "worse": "▼",
    "partly worse": "▼",
    "mixed": "▲▼",
    "not shown": "○",
    "not compared": "–",
}
WORDS: dict[Answer, str] = {
    "better": "Yes",
    "partly better": "In part",
    "worse": "No, worse",
    "partly worse": "No, in part worse",
    "mixed": "It depends",
    "not shown": "Not shown",
    "not compared": "Not compared",
}


@dataclass(frozen=True)
class Question:
    """What pretrained encoders are compared with.

    Attributes:
        text: the question.
        short: heading of a column.
        rival: role of the models that they are compared with.
    """

    text: str
    short: str
    rival: str


QUESTIONS = (
    Question(
        "Do pretrained features beat those of the same encoder before training?",
        "Frozen features, against the untrained encoder",
        "untrained",
    ),
    Question(
        "Do they beat brain volume and intensity quantiles?",
        "Frozen features, against brain volume and intensities",
        "image_statistics",
    ),
    Question("Does fine-tuning beat training from scratch?", "Fine-tuned, against from scratch", "from_scratch"),
)


@dataclass(frozen=True)
class Verdict:
    """The answer to a question, for one encoder or all together.

    Attributes:
        answer: by the comparisons that hold after correction.
        n_better: of them, in how many the pretrained encoder is better.
        n_worse: and worse.
        n: comparisons in all.
        strongest: the comparison with the smallest p, in words; empty if there is none.
    """

    answer: Answer
    n_better: int
    n_worse: int
    n: int
    strongest: str

    @property
    def sign(self) -> str:
        """Of the answer."""
        return SIGNS[self.answer]

    @property
    def style(self) -> str:
        """Class in the page."""
        if self.answer == "mixed" or not (self.n_better or self.n_worse):
            return "undecided"
        return "first" if self.n_better else "second"

    @property
    def counts(self) -> str:
        """`better in 2 of 9 comparisons, worse in 1`; empty without comparisons."""
        if not self.n:
            return ""
        found = [(word, k) for word, k in (("better", self.n_better), ("worse", self.n_worse)) if k]
        if self.n == 1:
            return f"{found[0][0]} in the only comparison" if found else "the only comparison doesn't hold"
        if not found:
            return f"none of {self.n} comparisons holds"
        (word, k), *more = found
        of = f"all {self.n} comparisons" if k == self.n else f"{k} of {self.n} comparisons"
        return f"{word} in {of}" + "".join(f", {word} in {k}" for word, k in more)

    def __str__(self) -> str:
        return f"{WORDS[self.answer]}{': ' * bool(self.n)}{self.counts}."


def verdict(tested: Tested, question: Question, model: str | None = None) -> Verdict:
    """The answer to a question.

    Args:
        tested: the task and test set.
        question: one of `QUESTIONS`.
        model: name of a pretrained encoder; None: all of them.
    """
    rows = _compared(tested, question, model)
    calls = [call(tested, row["value"], row["p_holm"]) for row in rows]
    n_better, n_worse = calls.count("better"), calls.count("worse")
    if not rows:
        return Verdict("not compared", 0, 0, 0, "")
    answer: Answer = "not shown"
    if n_better and n_worse:
        answer = "mixed"
    elif n_better:
        answer = "better" if n_better == len(rows) else "partly better"
    elif n_worse:
        answer = "worse" if n_worse == len(rows) else "partly worse"
    # Where nothing has a p (degenerate scores), the largest difference stands for all.
    row = min(rows, key=lambda row: (pd.isna(row["p"]), row["p"] if pd.notna(row["p"]) else 0, -abs(row["value"])))
    return Verdict(answer, n_better, n_worse, len(rows), _in_words(tested, row, with_model=model is None))


def call(tested: Tested, difference: float, p_holm: float) -> Call:
    """Whether the first model of a comparison is better or worse, if more than chance holds after correction."""
    if not p_holm < SIGNIFICANT or not difference:  # nan too
        return "not shown"
    return "better" if (difference > 0) == tested.metric.higher_is_better else "worse"


def p_value(p: float) -> str:
    """`0.012`, `< 0.001`, or n/a."""
    return "n/a" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def protocol_in_words(name: str) -> str:
    """`ridge probe`, `fine-tuned`."""
    return name.replace("finetune", "fine-tuned").replace("_", " ")


def _compared(tested: Tested, question: Question, model: str | None) -> Sequence[Mapping[Any, Any]]:
    table = tested.table("comparisons")
    if table.empty:
        return []
    roles = {one.name: one.role for one in tested.evaluation.info.models}
    ours = table["model"].map(roles).eq("pretrained") & table["against"].map(roles).eq(question.rival)
    if model is not None:
        ours &= table["model"].eq(model)
    return table[ours].to_dict("records")


def _in_words(tested: Tested, row: Mapping[Any, Any], with_model: bool) -> str:
    """`MAE −1.78 years [−3.54, 0.09], p = 0.062, corrected 1.000 (mae, ridge probe)`."""
    names, model = tested.evaluation.names, str(row["model"])
    learnt = next(one.learnt_from for one in tested.evaluation.info.models if one.name == model)
    unit = f" {tested.unit}" if tested.unit and tested.metric.in_target_unit else ""
    number = signed(Score(row["value"], row["low"], row["high"]), unit)
    against = names[str(row["against"])]
    protocol = "" if "from_scratch" in str(row["protocol"]) else protocol_in_words(str(row["protocol"]))
    who = [names[model] + (f" (learnt from {', '.join(learnt)})" if learnt else "")] if with_model else []
    what = ", ".join([*who, *([protocol] if protocol else [])])
    p = f"p {_equals(row['p'])}, Holm {_equals(row['p_holm'])}"
    return f"{what}{' ' if what else ''}against {against}: {tested.metric.label} {number}, {p}"


def signed(score: Score, unit: str = "") -> str:
    """`−1.78 years [−3.54, 0.09]`, of a difference."""
    value, _, interval = format_score(score).partition(" ")
    value = value if value.startswith("-") or value == "n/a" else f"+{value}"
    return f"{value}{unit}{' ' * bool(interval)}{interval}".replace("-", "−")


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
