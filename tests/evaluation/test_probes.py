import pickle
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation import probes
from neuro_ssl.evaluation.probes import PROBES, fit_probe, subject_folds

pytestmark = pytest.mark.filterwarnings("error")  # a sweep of thousands of probes must not flood the terminal
EVERY = [(probe, kind) for probe, kinds in PROBES.items() for kind in kinds]


def cohort(kind, n_subjects=40, n_features=12, n_scans=1, seed=0, signal=1.0):
    """Features, target and subject of subjects with some scans each; the target goes by the first feature."""
    random = np.random.default_rng(seed)
    person = random.normal(size=(n_subjects, n_features))
    subject = np.repeat(np.arange(n_subjects), n_scans)
    features = person[subject] + 0.3 * random.normal(size=(len(subject), n_features))
    target = signal * person[:, 0] + random.normal(size=n_subjects)
    target = (target > 0.4).astype(float) if kind == "classification" else 50 + 10 * target
    return features * np.geomspace(0.1, 10, n_features) + 3, target[subject], subject


def probability(model, x):
    return model.predict_proba(x)[:, 1]


@pytest.mark.parametrize(("n_subjects", "n_features"), [(70, 12), (30, 90)], ids=["few features", "many features"])
@pytest.mark.parametrize(("probe", "kind"), EVERY[:2])
def test_equals_scikit_learn_in_the_space_of_the_features(probe, kind, n_subjects, n_features):
    """StandardScaler and the regression as they are, the penalty by the squared error of `cross_val_predict`."""
    x, y, subject = cohort(kind, n_subjects, n_features, n_scans=2)
    new = cohort(kind, 20, n_features, seed=1)[0]
    folds = subject_folds(kind, y, subject)

    def regression(penalty):
        if probe == "ridge_probe":
            return make_pipeline(StandardScaler(), Ridge(penalty))
        return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=100_000))

    penalties = n_features * (probes.RIDGE_PENALTIES if probe == "ridge_probe" else probes.LOGISTIC_PENALTIES)
    method = "predict" if probe == "ridge_probe" else "predict_proba"
    errors = []
    for penalty in penalties:
        held_out = cross_val_predict(regression(penalty), x, y, cv=folds, method=method)
        errors.append(np.mean((y - (held_out if held_out.ndim == 1 else held_out[:, 1])) ** 2))
    best = penalties[np.argmin(errors)]
    assert penalties[-1] < best < penalties[0]  # the choice is a real one

    fitted = fit_probe(probe, kind, x, y, subject)
    assert fitted.choice == best
    oracle = regression(best).fit(x, y)
    expected = oracle.predict(new) if probe == "ridge_probe" else probability(oracle, new)
    np.testing.assert_allclose(fitted(new), expected, rtol=1e-6, atol=1e-6)
    assert np.std(expected) > 0.05


@pytest.mark.parametrize("kind", PROBES["knn_probe"])
def test_nearest_neighbours_equal_their_definition(kind):
    x, y, subject = cohort(kind)
    new = cohort(kind, 15, seed=1)[0]
    fitted = fit_probe("knn_probe", kind, x, y, subject)
    train, rows = (x - x.mean(0)) / x.std(0), (new - x.mean(0)) / x.std(0)
    for row, prediction in zip(rows, fitted(new), strict=True):
        distance = np.array([1 - row @ t / np.linalg.norm(row) / np.linalg.norm(t) for t in train])
        nearest = np.argsort(distance)[: int(fitted.choice)]
        assert prediction == pytest.approx(np.average(y[nearest], weights=1 / distance[nearest]))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_folds_divide_subjects_whole_each_once_and_classes_evenly(kind):
    _, y, subject = cohort(kind, 31, n_scans=3)
    folds = subject_folds(kind, y, subject)
    assert len(folds) == 5
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(y)))
    for train, held_out in folds:
        assert not set(subject[train]) & set(subject[held_out])
        assert sorted([*train, *held_out]) == list(range(len(y)))
        assert len(set(subject[held_out])) in (6, 7)
        if kind == "classification":
            assert abs(y[held_out].mean() - y.mean()) < 0.1
    order = np.random.default_rng(0).permutation(len(y))
    permuted = subject_folds(kind, y[order], subject[order])
    assert [set(subject[held_out]) for _, held_out in folds] == [set(subject[order][h]) for _, h in permuted]
    others = subject_folds(kind, y, subject, seed=1)
    assert [set(subject[held_out]) for _, held_out in folds] != [set(subject[h]) for _, h in others]


def test_as_many_folds_as_the_rarer_class_has_subjects():
    target = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    subject = np.array([0, 1, 2, 3, 4, 5, 5, 6, 7])  # three positive subjects, one of them twice
    folds = subject_folds("classification", target, subject)
    assert [set(target[train]) for train, _ in folds] == 3 * [{0, 1}]
    assert subject_folds("classification", target[:7], subject[:7]) == []
    assert len(subject_folds("regression", target, subject)) == 5
    assert subject_folds("regression", target[5:7], subject[5:7]) == []


@pytest.mark.parametrize(("probe", "kind"), EVERY)
def test_repeated_scans_of_a_subject_do_not_choose_the_regularisation(probe, kind):
    """Targets of noise: there is nothing to learn but who is who, which pays where scans, not subjects, are divided."""
    x, y, subject = cohort(kind, 40, 100, n_scans=4, signal=0.0)
    honest = fit_probe(probe, kind, x, y, subject).choice
    leaking = fit_probe(probe, kind, x, y, np.arange(len(y))).choice
    if probe == "knn_probe":
        assert leaking <= 3 and honest >= 20
    else:
        assert honest >= 100 * leaking


@pytest.mark.parametrize(("probe", "kind"), EVERY)
def test_the_order_of_rows_and_the_units_of_features_do_not_matter(probe, kind):
    x, y, subject = cohort(kind, n_scans=2)
    new = cohort(kind, 15, seed=1)[0]
    fitted = fit_probe(probe, kind, x, y, subject)
    order = np.random.default_rng(0).permutation(len(y))
    units = np.logspace(-6, 6, x.shape[1])
    other = fit_probe(probe, kind, x[order] * units, y[order], subject[order])
    np.testing.assert_allclose(other(new * units), fitted(new), rtol=1e-6)
    assert (pickle.loads(pickle.dumps(fitted))(new) == fitted(new)).all()


@pytest.mark.parametrize(("probe", "kind"), EVERY)
@pytest.mark.parametrize("n_subjects", [1, 2, 3, 4, 6])
def test_a_handful_of_subjects_is_enough_not_to_fail(probe, kind, n_subjects):
    for n_scans in (1, 3):
        for seed in range(4):
            x, y, subject = cohort(kind, n_subjects, 30, n_scans, seed)
            predictions = fit_probe(probe, kind, x, y, subject)(cohort(kind, 10, 30, seed=9)[0])
            assert predictions.shape == (10,)
            low, high = (0, 1) if kind == "classification" else (y.min() - np.ptp(y), y.max() + np.ptp(y))
            assert (predictions >= low - 1e-9).all() and (predictions <= high + 1e-9).all()
            if len(set(y)) == 1:
                assert (predictions == y[0]).all()


@pytest.mark.parametrize(("probe", "kind"), EVERY)
def test_with_too_few_subjects_to_choose_the_regularisation_is_the_strongest(probe, kind):
    x, y, subject = cohort(kind, 1, 30, n_scans=4)
    y = np.array([0.0, 1, 1, 0])
    fitted = fit_probe(probe, kind, x, y, subject)
    assert fitted.choice == (3 if probe == "knn_probe" else 30_000)
    np.testing.assert_allclose(fitted(x).mean(), 0.5, atol=0.1)


@pytest.mark.parametrize(("probe", "kind"), EVERY)
def test_features_that_do_not_vary_give_the_mean(probe, kind):
    _, y, subject = cohort(kind)
    for x in (np.ones((len(y), 3)), np.zeros((len(y), 0))):
        predictions = fit_probe(probe, kind, x, y, subject)(x[:2] + 1)
        assert predictions == pytest.approx([y.mean()] * 2)


@pytest.mark.parametrize(("probe", "kind"), EVERY)
def test_what_hardly_varied_in_training_does_not_decide_alone(probe, kind):
    x, y, subject = cohort(kind)
    new = cohort(kind, 15, seed=1)[0]
    expected = fit_probe(probe, kind, x, y, subject)(new)
    rounding = 1 + 1e-7 * np.random.default_rng(0).normal(size=(len(x), 1))
    with_rounding = fit_probe(probe, kind, np.hstack([x, rounding]), y, subject)
    np.testing.assert_allclose(with_rounding(np.hstack([new, np.full((15, 1), 2.0)])), expected)

    sparse = np.zeros((len(x), 1))
    sparse[3] = 1e-6  # as behind a ReLU
    far_off = np.hstack([new, np.full((15, 1), 5.0)])
    predictions = fit_probe(probe, kind, np.hstack([x, sparse]), y, subject)(far_off)
    assert (np.abs(predictions - y.mean()) < 2 * np.ptp(y)).all()
    if probe == "ridge_probe":
        plain = make_pipeline(StandardScaler(), Ridge(10)).fit(np.hstack([x, sparse]), y).predict(far_off)
        assert (np.abs(plain - y.mean()) > 1000 * np.ptp(y)).all()


def test_separable_classes_converge_at_the_weakest_penalty(monkeypatch):
    monkeypatch.setattr(probes, "LOGISTIC_PENALTIES", probes.LOGISTIC_PENALTIES[-1:])
    x, y, subject = cohort("classification", 60, 300)
    fitted = fit_probe("logistic_probe", "classification", x, y, subject)
    penalty = 300 * probes.LOGISTIC_PENALTIES[0]
    plain = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = make_pipeline(StandardScaler(), plain).fit(x, y)
    np.testing.assert_allclose(fitted(x), probability(oracle, x), atol=1e-5)


def test_refuses():
    x, y, subject = cohort("regression")
    with pytest.raises(InputError, match="ridge_probe is for regression, not for classification"):
        fit_probe("ridge_probe", "classification", x, y > 50, subject)
    with pytest.raises(InputError, match="targets 0 and 1; got 2"):
        fit_probe("knn_probe", "classification", x, np.where(y > 50, 2, 1), subject)
    with pytest.raises(InputError, match=r"\(40, 12\), \(39,\) and \(40,\)"):
        fit_probe("ridge_probe", "regression", x, y[1:], subject)
    with pytest.raises(InputError, match="there is none"):
        fit_probe("ridge_probe", "regression", x[:0], y[:0], subject[:0])
    for broken, what in ((np.where(x == x[3, 2], np.nan, x), "features"), (x, "target")):
        with pytest.raises(InputError, match=f"probe's {what} of the training rows are not all finite"):
            fit_probe(
                "ridge_probe", "regression", broken, y if what == "features" else np.full(len(y), np.inf), subject
            )
