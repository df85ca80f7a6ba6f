import numpy as np
import pytest

from neuro_ssl.evaluation.site_predictability import site_predictability


def embedding(n_subjects, shift, seed=0):
    """Features of subjects with two scans each, at sites a, b and c in turn; a's and b's are shifted."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n_subjects), 2)
    site = np.array(list("abc"))[subject % 3]
    features = rng.normal(size=(n_subjects, 40))[subject] + 0.1 * rng.normal(size=(2 * n_subjects, 40))
    features[site == "a", :3] += shift
    features[site == "b", 3:6] -= shift
    return features, site, subject


def test_site_is_told_where_it_shows():
    strong = site_predictability(*embedding(36, 3.0))
    assert strong.chance == pytest.approx(1 / 3)
    assert strong.score.value > 0.8
    assert strong.score.low > 0.7
    none = site_predictability(*embedding(36, 0.0))
    # A subject's two scans are nearly the same: unless folds keep subjects together, the site would be known.
    assert none.score.low < 1 / 3
    assert none.score.value < 0.5
    features, site, subject = embedding(36, 3.0)
    renamed = site_predictability(features, np.char.add("site ", site), subject)
    assert renamed.score == strong.score


def test_small_sites_are_left_out_and_named():
    features, site, subject = embedding(33, 3.0)
    site = site.astype(object)
    site[subject < 4] = "tiny"
    site[subject == 4] = None
    result = site_predictability(features, site, subject)
    assert result.left_out == ("tiny",)
    assert result.n_subjects == {"a": 9, "b": 9, "c": 10}
    only = site_predictability(features, np.where(np.arange(66) < 62, "a", "b"), subject)
    assert only.left_out == ("b",)
    assert np.isnan([only.score.value, only.chance]).all()
