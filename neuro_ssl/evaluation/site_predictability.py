"""Site predictability: how well a linear classifier tells from the features of a scan where it was made."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuro_ssl.evaluation.bootstrap import Score, Subjects, bootstrap_interval
from neuro_ssl.evaluation.metrics import Array

MIN_SUBJECTS = 5  # of a site
FOLDS, INNER_FOLDS = 5, 3  # a site of five subjects is in every fold
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the classifier, for standardised features


@dataclass(frozen=True)
class SitePredictability:
    """How well the site is told from the features.

    Attributes:
        score: balanced accuracy, the mean over sites of the share of their scans that are recognised.
        chance: what guessing reaches, 1 / number of sites.
        n_subjects: by site that takes part.
        left_out: sites with fewer than `MIN_SUBJECTS` subjects.
    """

    score: Score
    chance: float
    n_subjects: dict[str, int]
    left_out: tuple[str, ...]


def site_predictability(
    features: npt.ArrayLike,
    site: npt.ArrayLike,
    subject: npt.ArrayLike,
    *,
    seed: int = 0,
    n_resamples: int = 2000,
) -> SitePredictability:
    """Balanced accuracy with which logistic regression tells the site of subjects that it hasn't seen.

    Cross-validated by subject, the penalty chosen inside the training folds. The interval is a bootstrap over subjects,
    drawn within sites, of the predictions as they are; a low end above chance says that features carry the site, be it
    by scanner or by whom the site examined: look at age, sex and diagnosis too. Without any signal, and with few
    subjects, the score lies somewhat below chance: whoever is tested is missed in training.

    Args:
        features: (scans, features).
        site: (scans,), or the scanners; scans without one (null) are left out.
        subject: (scans,), whose scans they are.
        seed: of folds and bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        With a score of nan if fewer than 2 sites have enough subjects.
    """
    columns = {"site": np.asarray(site, object), "subject": np.asarray(subject, object)}
    scans = pd.DataFrame(columns).astype("str")  # null stays null
    n_subjects = scans.groupby("site")["subject"].nunique()
    kept = n_subjects[n_subjects >= MIN_SUBJECTS]
    left_out = tuple(sorted(n_subjects.index.difference(kept.index)))
    counts = {str(name): int(n) for name, n in kept.items()}
    if len(kept) < 2:
        return SitePredictability(Score(np.nan, np.nan, np.nan), np.nan, counts, left_out)
    chosen = scans["site"].isin(kept.index).to_numpy()
    scans, data = scans[chosen].reset_index(drop=True), np.asarray(features, float)[chosen]
    where, who = scans["site"].to_numpy(str), scans["subject"].to_numpy(str)

    correct = np.zeros(len(where))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(data, where, who):
        # All principal components are a rotation: the penalty stays what it is, and few scans need few columns.
        rotated = make_pipeline(StandardScaler(), PCA(svd_solver="full")).fit(data[train])
        search = GridSearchCV(
            LogisticRegression(class_weight="balanced", max_iter=2000),
            {"C": PENALTIES},
            scoring="balanced_accuracy",
            cv=StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed),
        )
        search.fit(rotated.transform(data[train]), where[train], groups=who[train])
        correct[test] = search.predict(rotated.transform(data[test])) == where[test]

    at_site = where == kept.index.to_numpy(str)[:, None]  # (sites, scans)

    def balanced_accuracy(weight: Array) -> Array:
        recall = (weight * correct) @ at_site.T / (weight @ at_site.T)
        return recall.mean(-1)  # type: ignore[no-any-return]

    index = np.unique(who, return_inverse=True)[1]
    home = scans.groupby("subject")["site"].first().to_numpy(str)  # of a subject with scans at several sites, one
    strata = tuple(np.flatnonzero(home == name) for name in np.unique(home))
    score = bootstrap_interval(balanced_accuracy, Subjects(index, strata), seed=seed, n_resamples=n_resamples)
    return SitePredictability(score, 1 / len(kept), counts, left_out)
