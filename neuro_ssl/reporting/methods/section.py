"""The section Methods: paragraphs under headings, as a file for papers in Markdown and LaTeX."""

from collections.abc import Sequence
from io import StringIO

import pandas as pd

from neuro_ssl.reporting.evaluations.reading import Evaluation
from neuro_ssl.reporting.latex import escape
from neuro_ssl.reporting.methods.computing import computing
from neuro_ssl.reporting.methods.judging import evaluated, statistics
from neuro_ssl.reporting.methods.participants import participants, preprocessing
from neuro_ssl.reporting.methods.references import references
from neuro_ssl.reporting.methods.training import encoders, pretraining, tasks
from neuro_ssl.reporting.runs.reading import Runs
from neuro_ssl.reporting.section import Section

NAME = "methods"
HOW = (
    "Written from the records of what this report shows. Read it against what you did, correct it, and fill in what is "
    "in [brackets], which no record tells."
)


def methods_sections(runs: Runs, evaluations: Sequence[Evaluation], shown: Sequence[Section]) -> list[Section]:
    """The methods of all that a report shows; none where that is nothing.

    Args:
        runs: the finished ones among them count.
        evaluations: those shown.
        shown: the other sections, of which the comparisons' tests are taken.
    """
    parts = _parts(runs, evaluations, shown)
    if not parts:
        return []
    cited = references("\n".join(parts.values()))
    content = {"parts": {name: text.split("\n\n") for name, text in parts.items()}, "references": cited, "how": HOW}
    files = {f"{NAME}.md": _markdown(parts, cited), f"{NAME}.tex": _latex(parts, cited)}
    return [Section(NAME, "Methods, to paste and correct", content, files=files)]


def _parts(runs: Runs, evaluations: Sequence[Evaluation], shown: Sequence[Section]) -> dict[str, str]:
    """Paragraphs by heading."""
    records = [*(run.info for run in runs.finished), *(one.info for one in evaluations)]
    if not records:
        return {}
    own = [run.info.dataset for run in runs.finished]
    datasets = list({d.key: d for d in [*own, *(d for one in evaluations for d in one.info.data.values())]}.values())
    pretrained = [run.path.name for run in runs.pretraining]
    parts = {"Participants": participants(datasets), "Preprocessing": preprocessing(datasets)}
    if runs.finished:
        parts["Encoder"] = encoders(runs.finished)
    if runs.pretraining:
        parts["Pretraining"] = pretraining(runs.pretraining)
    if runs.downstream:
        parts["Tasks"] = tasks(runs.downstream, pretrained)
    if evaluations:
        parts["Evaluation"] = evaluated(evaluations, pretrained)
    if runs.downstream or evaluations:
        parts["Statistics"] = statistics(runs.downstream, _tests(shown), evaluations)
    return parts | {"Software and hardware": computing(records, runs.finished)}


def _tests(shown: Sequence[Section]) -> set[str]:
    """Those by which the runs on the page were compared."""
    files = [section.files["comparisons.csv"] for section in shown if "comparisons.csv" in section.files]
    return {str(test) for text in files for test in pd.read_csv(StringIO(text))["test"].dropna()}


def _markdown(parts: dict[str, str], cited: Sequence[str]) -> str:
    lines = [f"# Methods\n\n*{HOW}*"]
    lines += [f"## {name}\n\n{text}" for name, text in parts.items()]
    lines += ["## References\n\n" + "\n".join(f"- {entry}" for entry in cited)] if cited else []
    return "\n\n".join(lines) + "\n"


def _latex(parts: dict[str, str], cited: Sequence[str]) -> str:
    lines = [f"% {HOW}", r"\section{Methods}"]
    for name, text in parts.items():
        lines += [f"\\subsection{{{escape(name)}}}", *(escape(one) for one in text.split("\n\n"))]
    if cited:
        items = "\n".join(f"\\item {escape(entry)}" for entry in cited)
        lines += [r"\subsection*{References}", f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"]
    return "\n\n".join(lines) + "\n"
