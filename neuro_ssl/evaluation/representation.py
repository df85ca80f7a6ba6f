"""How good a representation is, told by its embeddings: without labels, and by simple models of the labels there are.

Legend: N scans, D features. Embeddings may lie on any device, in any precision; results are in float32 or wider.
"""

from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro_ssl.evaluation.metrics import METRICS, PRIMARY, Kind, Predictions
from neuro_ssl.evaluation.probes import Probe, fit_probe

LABELS: dict[str, Kind] = {"age_years": "regression", "sex": "classification", "diagnosis": "classification"}
LABEL_PROBES: dict[Kind, dict[str, Probe]] = {
    "regression": {"ridge": "ridge_probe", "knn": "knn_probe"},
    "classification": {"logistic": "logistic_probe", "knn": "knn_probe"},
}
CONTROLS = "CN"  # what the cohorts' files call people without a diagnosis
MIN_SUBJECTS = 10  # with a label, in each split; with fewer a score is noise
MIN_OF_A_CLASS = 5  # of them in each class


def rankme(embedding_ND: Tensor) -> Tensor:
    """RankMe (Garrido et al. 2023): exp of the entropy of the normalised singular values (0 log 0 is 0).

    Returns:
        The effective number of dimensions, from 1 (all embeddings on one line through 0) to min(N, D).
    """
    singular = torch.linalg.svdvals(_wide(embedding_ND))
    entropy: Tensor = torch.special.entr(singular / singular.sum().clamp(min=1e-12)).sum()
    return entropy.exp()


def spread(embedding_ND: Tensor) -> Tensor:
    """Mean standard deviation of the embeddings' directions, times √D: 0 if all are alike, about 1 for random ones."""
    direction = F.normalize(_wide(embedding_ND), dim=1)
    sd: Tensor = direction.std(dim=0).mean() * direction.shape[1] ** 0.5
    return sd


def alignment(first_ND: Tensor, second_ND: Tensor) -> Tensor:
    """Mean squared distance of two views' directions (Wang & Isola 2020, with α = 2): 0 is best, 2 is unrelated.

    Args:
        first_ND: embeddings of a view of each scan.
        second_ND: of another view of each, rows in the same order.
    """
    difference = F.normalize(_wide(first_ND), dim=1) - F.normalize(_wide(second_ND), dim=1)
    return difference.square().sum(dim=1).mean()


def uniformity(embedding_ND: Tensor) -> Tensor:
    """Log of the mean Gaussian potential of pairs of directions (Wang & Isola 2020, with t = 2).

    Returns:
        0 if all directions are the same, about −4 if they spread evenly over many dimensions: lower is more uniform.
    """
    distance = torch.pdist(F.normalize(_wide(embedding_ND), dim=1))
    return distance.square().mul(-2).exp().mean().log()


def contrastive_accuracy(first_ND: Tensor, second_ND: Tensor, subject_N: Tensor) -> Tensor:
    """How often a view is more similar (by cosine) to its scan's other view than to any view of another subject.

    Other scans of the same subject are neither right nor wrong, and are left out. Unlike the accuracy that training
    logs, it is of embeddings, before the projector, and over all scans at once instead of a batch at a time.

    Args:
        first_ND: embeddings of a view of each scan.
        second_ND: of another view of each, rows in the same order.
        subject_N: integer codes of the scans' subjects, two at least.

    Returns:
        A share of the 2N views. A tie is a miss, so that a collapsed representation has 0.
    """
    z = F.normalize(torch.cat([_wide(first_ND), _wide(second_ND)]), dim=1)
    subject = subject_N.repeat(2)
    similarity = z @ z.T
    n = len(first_ND)
    partner = torch.cat([similarity.diagonal(n), similarity.diagonal(-n)])
    others = similarity.masked_fill(subject[:, None] == subject, -torch.inf).amax(dim=1)
    return (partner > others).to(z.dtype).mean()


def label_scores(
    train_ND: Tensor, train_scans: pd.DataFrame, val_ND: Tensor, val_scans: pd.DataFrame
) -> dict[str, float]:
    """What simple models learn from the training scans' features, scored on validation scans.

    Of `age_years`, `sex` and `diagnosis`, those with labels of at least `MIN_SUBJECTS` subjects in both splits. Each
    diagnosis (of `MIN_OF_A_CLASS` subjects at least) is told from `CN`, or where there is none from the most frequent.

    Args:
        train_ND: features of the training scans, (scans, features).
        train_scans: a row each, with `subject` (any code of whom it shows), and labels as in a manifest.
        val_ND: features of the validation scans.
        val_scans: a row each.

    Returns:
        MAE in years as `age_years_ridge_mae` and `age_years_knn_mae`; AUROC as `sex_logistic_auroc`, `sex_knn_auroc`,
        `diagnosis_AD_logistic_auroc`, …; what cannot be told is left out.
    """
    scores = {}
    for name, (kind, train_target, val_target) in _targets(train_scans, val_scans).items():
        rows, val_rows = train_target.notna().to_numpy(), val_target.notna().to_numpy()
        x, val_x = train_ND.double().numpy()[rows], val_ND.double().numpy()[val_rows]
        y, val_y = train_target.to_numpy(np.float64)[rows], val_target.to_numpy(np.float64)[val_rows]
        metric = PRIMARY[kind]
        for short, probe in LABEL_PROBES[kind].items():
            predict = fit_probe(probe, kind, x, y, train_scans["subject"].to_numpy()[rows])
            score = METRICS[kind][metric].compute(Predictions(val_y, predict(val_x)), np.ones(len(val_y)))
            scores[f"{name}_{short}_{metric}"] = float(score)
    return scores


def objectives(train_scans: pd.DataFrame, val_scans: pd.DataFrame) -> list[str]:
    """The measures of these scans that settings may be chosen by: RankMe, which was made for it, and all label scores.

    (Alignment and uniformity are two ends of one trade, and contrastive accuracy is soon near 1.)
    """
    named = _targets(train_scans, val_scans).items()
    return ["rankme"] + [
        f"{name}_{short}_{PRIMARY[kind]}" for name, (kind, *_) in named for short in LABEL_PROBES[kind]
    ]


def better(objective: str) -> Literal["min", "max"] | None:
    """Whether a smaller or a larger value of an objective is better; None for what is no objective's name."""
    higher = {metric: METRICS[kind][metric].higher_is_better for kind, metric in PRIMARY.items()} | {"rankme": True}
    metric = next((name for name in higher if objective == name or objective.endswith(f"_{name}")), None)
    return None if metric is None else "max" if higher[metric] else "min"


def _targets(train: pd.DataFrame, val: pd.DataFrame) -> dict[str, tuple[Kind, pd.Series, pd.Series]]:
    """What can be told, by name, and the target of each row of both splits, missing where the row has no part in it."""
    found: dict[str, tuple[Kind, pd.Series, pd.Series]] = {}
    for column, kind in LABELS.items():
        if column not in train or column not in val:
            continue
        if kind == "regression":
            found[column] = (kind, train[column], val[column])
            continue
        subjects = pd.DataFrame(
            {split: _subjects_of(scans, column) for split, scans in (("train", train), ("val", val))}
        )
        enough = subjects.index[(subjects >= MIN_OF_A_CLASS).all(axis=1)]  # in alphabetical order
        if len(enough) < 2:
            continue
        reference = CONTROLS if CONTROLS in enough else subjects.loc[enough, "train"].idxmax()
        for label in enough.drop(reference):
            codes = {reference: 0.0, label: 1.0}
            name = column if column == "sex" else f"{column}_{label}"
            found[name] = (kind, train[column].map(codes), val[column].map(codes))
    return {
        name: target
        for name, target in found.items()
        if all(
            scans["subject"][values.notna()].nunique() >= MIN_SUBJECTS
            for scans, values in zip((train, val), target[1:], strict=True)
        )
    }


def _subjects_of(scans: pd.DataFrame, column: str) -> pd.Series:
    """Number of subjects with each value of a column."""
    return scans.groupby(column)["subject"].nunique()


def _wide(embedding: Tensor) -> Tensor:
    return embedding.to(torch.promote_types(embedding.dtype, torch.float32))
