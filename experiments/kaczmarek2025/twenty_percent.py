"""Fine-tuning with a fifth of the labels, against training from scratch with a fifth, and with all of them.

    python experiments/kaczmarek2025/twenty_percent.py WORK/runs/evaluation-simulated-…

The paper: fine-tuning with 20 % of the training subjects is still better than training from scratch on AIBL.
Differences are paired by subject, replicates averaged; p by DeLong's or a permutation test, Holm's correction over the
whole table.
"""

import sys
from pathlib import Path

import pandas as pd

from neuro_ssl.evaluation.comparisons import compare, holm
from neuro_ssl.reporting.cells import format_score, padded

TASKS = {
    "alzheimers": ("classification", "auroc"),
    "sex": ("classification", "auroc"),
    "brain_age": ("regression", "mae"),
    "stroke_severity": ("regression", "mae"),
}


def main(evaluation: Path) -> None:
    (results,) = evaluation.glob("results-*")
    predictions = pd.read_parquet(results / "predictions.parquet")
    predictions = predictions[predictions["split"] == "test"]
    rows, p_values = [], []
    for task, (kind, metric) in TASKS.items():
        of_task = predictions[predictions["task"] == task]
        fine_tuned = of_task[of_task["protocol"] == "finetune"]
        scratch = of_task[of_task["protocol"] == "from_scratch"]
        for model in fine_tuned["model"].unique():
            few = fine_tuned[(fine_tuned["model"] == model) & (fine_tuned["fraction"] == 0.2)]
            for other in scratch["model"].unique():
                if ("vit" in other) != (model == "mae"):
                    continue  # the same network on both sides
                for fraction in (0.2, 1.0):
                    against = scratch[(scratch["model"] == other) & (scratch["fraction"] == fraction)]
                    found = compare(few, against, kind, metric)
                    who = f"{other.split()[2]} from scratch, {fraction:.0%}"
                    rows.append([task, f"{model}, 20%", who, metric, format_score(found)])
                    p_values.append(found.p)
    corrected = [f"{p:.3f}" for p in holm(p_values)]
    header = ["task", "fine-tuned", "against", "metric", "difference", "p", "p, Holm"]
    print(padded([header, *([*row, f"{p:.3f}", q] for row, p, q in zip(rows, p_values, corrected, strict=True))]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
