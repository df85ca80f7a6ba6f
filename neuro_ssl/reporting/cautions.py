"""What a reader must know before a number, in the words of reports and evaluations alike."""

from collections.abc import Sequence

FEW_SUBJECTS = 30  # below, bootstrap intervals tend to be too narrow and no model can be told from another


def few_subjects(n: int, what: str, cohort: str | None = None) -> str:
    """That a score rests on few test subjects.

    Args:
        n: of them, fewer than `FEW_SUBJECTS`.
        what: tasks or test sets.
        cohort: named first, where there may be several.
    """
    only = f"Cohort {cohort}: only" if cohort else "Only"
    return f"{only} {n} test subjects for {what}: the intervals are rough, and only large differences can show."


def learnt_from_labels(model: str, labels: Sequence[str]) -> str:
    """That an encoder was pretrained with labels."""
    return (
        f"{model} was trained with labels ({', '.join(labels)}): compare it with what saw none in mind of that, and "
        "its label efficiency not at all."
    )
