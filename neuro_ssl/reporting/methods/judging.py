"""The methods' parts on evaluation and statistics: of what the report shows, and nothing else."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuro_ssl.reporting.cautions import learnt_from_labels
from neuro_ssl.reporting.evaluations.reading import Evaluation
from neuro_ssl.reporting.methods.words import listed, or_unknown, sentences, unknown
from neuro_ssl.reporting.runs.reading import DownstreamRun

N_RESAMPLES, N_PERMUTATIONS = 2000, 10_000  # of runs; evaluations have settings
MODELS = {
    "constant": "the training scans’ mean, or majority",
    "image_statistics": "image statistics (brain volume and intensity quantiles)",
    "untrained": "the encoders before training",
    "from_scratch": "networks trained from scratch",
    "pretrained": "pretrained encoders",
}
PROTOCOLS = {
    "ridge_probe": "ridge regression on frozen features",
    "logistic_probe": "logistic regression on frozen features",
    "knn_probe": "nearest neighbours of frozen features",
    "linear_probe": "a linear layer trained on frozen features",
    "finetune": "fine-tuning",
}
PROBES = ("ridge_probe", "logistic_probe", "knn_probe")
PROBED = (
    "How strongly a probe was regularised was chosen by cross-validation over the training split’s subjects, with "
    "scikit-learn (Pedregosa et al. 2011)."
)
TESTED = {
    "test": "on the test split",
    "cross_validation": "in a cross-validation by person",
    "leave_site_out": "on the test split, each site by models of the others",
}
PRIMARY_IN_WORDS = {
    "regression": "the mean absolute error (MAE) of regressions",
    "classification": "the area under the ROC curve (AUROC) of classifications",
}
CLOSED_FORM = (
    "Where the bootstrap has none, as where classes are separated perfectly, a class is always or never recognised, or "
    "subjects are very few, intervals are closed-form ones on the number of subjects: of AUROC by Newcombe’s method 5 "
    "(Newcombe 2006), of sensitivity and specificity by Wilson’s (Wilson 1927), of balanced accuracy by the "
    "latter two combined (Newcombe 1998)."
)
CLUSTERED = ", in Obuchowski’s form for subjects with several scans (Obuchowski 1997)"


def evaluated(evaluations: Sequence[Evaluation], pretrained: Collection[str]) -> str:
    """A paragraph an evaluation: models, protocols, test sets.

    Args:
        evaluations: those to tell of.
        pretrained: names of the pretraining runs that are told of already.
    """
    return "\n\n".join(_evaluated(one, pretrained) for one in evaluations)


def statistics(runs: Sequence[DownstreamRun], tests: Collection[str], evaluations: Sequence[Evaluation]) -> str:
    """How scores, intervals and p values came about.

    Args:
        runs: on the tasks.
        tests: of the comparisons between them.
        evaluations: with tests of their own.
    """
    settings = [dict(one.info.config.get("statistics") or {}) for one in evaluations]
    resamples = sorted({*([N_RESAMPLES] if runs else []), *(s["n_resamples"] for s in settings if "n_resamples" in s)})
    permutations = {
        *([N_PERMUTATIONS] if runs else []),
        *(s["n_permutations"] for s in settings if "n_permutations" in s),
    }
    used = {*tests, *(str(test) for one in evaluations for test in one.tables["comparisons"]["test"].dropna())} - {
        "none"
    }
    kinds = dict.fromkeys(run.results.kind for run in runs)
    primary = listed([PRIMARY_IN_WORDS[kind] for kind in kinds]) if kinds else ""
    classifies = "classification" in kinds or any("auroc" in set(one.tables["scores"]["metric"]) for one in evaluations)
    often = listed([f"{n:,}" for n in resamples]) if resamples else unknown("how many")
    many = len({run.info.seed for run in runs}) > 2
    return sentences(
        _opened(runs),
        f"The primary score{'s were' if len(kinds) > 1 else ' was'} {primary}." if primary else "",
        "Scores are given with 95 % intervals by the bias-corrected and accelerated bootstrap (Efron 1987) over "
        f"subjects, each drawn with all its scans ({often} resamples).",
        CLOSED_FORM if classifies else "",
        _tests(used, sorted(permutations)),
        "Means over three seeds or more are given with t intervals over seeds, too." if many else "",
        _leakage(runs),
    )


def _opened(runs: Sequence[DownstreamRun]) -> str:
    """How often the test split was looked at."""
    if not runs:
        return ""
    again = sorted({run.info.name for run in runs if len(run.results.test_opened) > 1})
    if again:
        return f"The test split was opened more than once by {listed(again)}, each of whose runs had been interrupted."
    if any(not run.results.test_opened for run in runs):
        return f"{unknown('how often the test split was looked at, which some records don’t tell')}."
    return "Each run opened the test split once, when training was over, with the weights that validation had chosen."


def _tests(used: Collection[str], permutations: Sequence[int]) -> str:
    parts = []
    if {"DeLong", "clustered DeLong"} & set(used):
        clustered = CLUSTERED if "clustered DeLong" in used else ""
        parts.append(f"areas under ROC curves by DeLong’s test (DeLong et al. 1988){clustered}")
    if "permutation" in used:
        often = listed([f"{n:,}" for n in permutations])
        what = "other scores" if parts else "scores"
        parts.append(
            f"{what} by a permutation test that exchanges two models’ predictions of a subject ({often} draws)"
        )
    if not parts:
        return ""
    return (
        f"Models were compared on the same scans, paired by subject: {'; '.join(parts)}. P values were corrected by "
        "Holm’s method (Holm 1979) within each task."
    )


def _leakage(runs: Sequence[DownstreamRun]) -> str:
    verdicts = {run.info.name: run.results.leakage for run in runs}
    lines = []
    if any(found and found.verdict == "disjoint" for found in verdicts.values()):
        of = "" if all(found and found.verdict == "disjoint" for found in verdicts.values()) else "Of the other runs, "
        text = "no validation or test subject was, by subject and by image, among those that the encoder had seen."
        lines.append(f"{of}{text}" if of else text[0].upper() + text[1:])
    for verdict in ("overlapping", "unknown"):
        names = [name for name, found in verdicts.items() if (found.verdict if found else "unknown") == verdict]
        if names and verdict == "overlapping":
            lines.insert(0, f"Validation or test subjects had been trained on in {listed(sorted(set(names)))}.")
        elif names:
            which = f" of the weights of {listed(sorted(set(names)))}" if len(names) < len(verdicts) else ""
            lines.insert(0, f"Whether test subjects had been trained on is not known{which}.")
    return " ".join(lines)


def _evaluated(one: Evaluation, pretrained: Collection[str]) -> str:
    config: Mapping[str, Any] = one.info.config
    compared = [_models(one, role) for role in dict.fromkeys(model.role for model in one.info.models)]
    protocols = [PROTOCOLS.get(str(name), str(name)) for name in config.get("protocols", [])]
    wanted = [str(name).replace("_", " ") for name in config.get("tasks", [])] or [unknown("tasks")]
    elsewhere = [m.name for m in one.encoders if not {Path(path).name for path in m.weights} <= set(pretrained)]
    trains = {"linear_probe", "finetune"} & set(config.get("protocols", [])) or config.get("from_scratch")
    shares = [f"{100 * f:g} %" for f in config.get("label_fractions", []) if f != 1]
    return sentences(
        f"For {listed(wanted)} on cohort {one.cohort.cohort}, we compared {'; '.join(compared)}.",
        f"Models were fitted by {listed(protocols)}." if protocols else f"{unknown('protocols')}.",
        f"{unknown(f'how {listed(elsewhere)} had been pretrained, or references')}." if elsewhere else "",
        PROBED if any(str(name) in PROBES for name in config.get("protocols", [])) else "",
        f"{unknown('how networks were trained: name these runs in runs=, too, and it is told')}." if trains else "",
        _test_sets(config),
        f"Models were also fitted with {listed(shares)} of the training persons’ labels, nested." if shares else "",
        *(learnt_from_labels(m.name, m.learnt_from) for m in one.encoders if m.learnt_from),
    )


def _models(one: Evaluation, role: str) -> str:
    names = listed([model.name for model in one.encoders]) if one.encoders else ""
    return f"{MODELS[role]} ({names})" if role == "pretrained" else MODELS[role]


@or_unknown("test sets")
def _test_sets(config: Mapping[str, Any]) -> str:
    words, folds = dict(TESTED), config.get("cross_validation")
    if folds:
        repeated = f", {folds['n_repeats']} times" if folds["n_repeats"] > 1 else ""
        words["cross_validation"] += f" ({folds['n_folds']} folds{repeated})"
    sets = [words.get(name, f"on the cohort {name}") for name in config.get("test_sets", [])]
    return f"They were judged {'; and '.join(sets)}." if sets else ""
