import numpy as np
import pytest
from scipy.stats import ttest_1samp

from neuro_ssl.evaluation.agreement import limits_of_agreement


def test_limits_are_those_of_bland_and_altmans_own_example():
    """Blood pressure by an observer and a machine: 85 people, mean difference -16.29, SD 19.61 (1999, section 2)."""
    values = np.random.default_rng(0).normal(size=85)
    found = limits_of_agreement(-16.29 + 19.61 * (values - values.mean()) / values.std(ddof=1), 85)
    assert found.mean.value == pytest.approx(-16.29)
    assert (found.lower.value, found.upper.value) == pytest.approx((-54.7, 22.1), abs=0.05)
    # Their intervals: −61.9 to −47.5 and 14.9 to 29.3 (SE 3.64 by √(1.71² s²/n), t = 1.99; they round in between).
    assert (found.lower.low, found.lower.high) == pytest.approx((-61.9, -47.5), abs=0.15)
    assert (found.upper.low, found.upper.high) == pytest.approx((14.9, 29.3), abs=0.15)


def test_the_mean_has_the_t_interval_and_scans_of_one_subject_count_once():
    difference = np.random.default_rng(1).normal(2, 3, 30)
    interval = ttest_1samp(difference, 0).confidence_interval(0.95)
    found = limits_of_agreement(difference, 30)
    assert (found.mean.low, found.mean.high) == pytest.approx(tuple(interval))
    assert limits_of_agreement(difference, 10).upper.high > found.upper.high


def test_too_few_scans_have_no_limits():
    assert np.isnan(limits_of_agreement(np.array([1.0]), 1).lower.value)
    found = limits_of_agreement(np.array([1.0, 2.0]), 1)
    assert found.lower.value < 1 and np.isnan(found.lower.low)
