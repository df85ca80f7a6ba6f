"""What a person sees in the terminal: our own lines, not the libraries' chatter."""

import logging
import sys
import warnings
from typing import Any

from tqdm import tqdm

from neuro_ssl.gpus import points_side_by_side
from neuro_ssl.processes import launched_rank

# Lightning's advice that doesn't apply: loaders are sized by the user, tiny data sets are meant.
_NOT_FOR_USERS = (
    ".*does not have many workers.*",
    ".*number of training batches.*smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*GPU available but not used.*",
    ".*`srun` command is available.*",  # who wants it uses it
    ".*`persistent_workers=True`.*",
    ".*your dataloader is not resumable.*",  # ours is, by the datamodule's state
    ".*in eval mode at the start of training.*",  # a frozen encoder is meant to be
)


def progress_bar(*, beside_others: bool = False, **settings: Any) -> "tqdm[Any]":
    """A tqdm bar that redraws itself in a terminal, and in a log file writes a line every half minute.

    Args:
        beside_others: other processes show theirs in the same terminal, so that it writes lines there too. (Points of
            a sweep that run side by side always do.)
        settings: tqdm's.
    """
    beside_others = beside_others or points_side_by_side() > 1
    if beside_others:
        settings["bar_format"] = "{desc}: {n_fmt} of {total_fmt} in {elapsed}, {rate_fmt}, {remaining} left{postfix}\n"
    redraws = sys.stderr.isatty() and not beside_others
    return tqdm(mininterval=0.1 if redraws else 30, dynamic_ncols=True, **settings)


def plain_warnings() -> None:
    """Show a warning as one line, without the place in the code that it comes from.

    Of the processes of a run the first one warns for all, which meet the same.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    if launched_rank():
        warnings.simplefilter("ignore")


def quiet_libraries() -> None:
    """Leave out the banners and tips of Lightning and its friends, once they are imported; real warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NOT_FOR_USERS:
        warnings.filterwarnings("ignore", message=message)


def scores_table(results: dict[str, Any]) -> str:
    """A downstream run's scores beside its baseline's, from `results.json`, or `validation.json`, which it says.

    One table a target.
    """
    if "targets" in results:
        return "\n".join(map(scores_table, results["targets"].values()))

    def cell(score: dict[str, float | None]) -> str:
        value, low, high = ("n/a" if score[key] is None else f"{score[key]:.3f}" for key in ("value", "low", "high"))
        return value if low == high == "n/a" else f"{value} [{low}, {high}]"

    baseline = results["baseline"]
    width = max(map(len, results["scores"])) + 2
    unit = f" in {results['unit']}" if results["unit"] else ""
    split, scans = ("test", "test scans") if "n_test_scans" in results else ("val", "validation scans")
    what, chose = ("", "") if split == "test" else ("VALIDATION scores, ", " (which chose the epoch)")
    n_scans, n_subjects = results[f"n_{split}_scans"], results[f"n_{split}_subjects"]
    lines = [
        f"{results['task']}{unit}: {what}{n_scans} {scans} of {n_subjects} subjects{chose}, 95 % intervals over "
        "subjects",
        f"  {'':<{width}}{'this model':<26}{baseline['name']}",
    ]
    for metric, score in results["scores"].items():
        if score["value"] is not None or split == "test":  # validation lacks those that need thresholds from validation
            lines.append(f"  {metric:<{width}}{cell(score):<26}{cell(baseline['scores'][metric])}")
    if (reference := results.get("reference")) and split == "test":
        scratch = f", from scratch {reference['from_scratch']:g}" if reference["from_scratch"] is not None else ""
        lines.append(
            f"  the paper's {reference['metric']}, on its own test scans of {reference['cohort']}: fine-tuned "
            f"{reference['fine_tuned']:g}{scratch}"
        )
    return "\n".join(lines)
