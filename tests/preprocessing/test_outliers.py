import numpy as np
import pandas as pd
import pytest

from neuro_ssl.preprocessing import outliers
from neuro_ssl.preprocessing.outliers import RIDGE, judge, nearest, not_judged, sidedness
from neuro_ssl.preprocessing.quality import mirror

TYPICAL = {"brain_ml": 1400, "dice": 0.93, "template_correlation": 0.6, "missing_ml": 6, "rotation_degrees": 15}
TYPICAL |= {"shift_mm": 20, "voxel_x_mm": 1, "voxel_y_mm": 1, "voxel_z_mm": 1, "grey_to_white": 0.72, "noise": 0.05}
TYPICAL |= {"entropy": 0.54}


def cohort(n, seed=0):
    """Measurements that scatter by 3 %, and fingerprints with an asymmetry that all share."""
    rng = np.random.default_rng(seed)
    names = [f"sub-{i:02d}" for i in range(n)]
    table = pd.DataFrame({name: value * rng.normal(1, 0.03, n) for name, value in TYPICAL.items()})
    table = table.assign(scan_id=names, subject_id=names, image_hash=names)
    shared = rng.normal(size=len(mirror()))
    shared -= shared[mirror()]
    return table, (0.5 * shared + rng.normal(size=(n, len(mirror())))).astype(np.float16)


def flagged(table, fingerprints, left_out=None):
    table, flags = judge(table, fingerprints, left_out or [False] * len(table))
    return {scan: {flag.measurement for flag in own} for scan, own in zip(table["scan_id"], flags, strict=True) if own}


def test_a_cohort_without_faults_has_no_flags():
    assert flagged(*cohort(30)) == {}


@pytest.mark.parametrize(
    ("measurement", "value", "other"),
    [
        ("brain_ml", 900, 1300),
        ("brain_ml", 1950, 1500),
        ("dice", 0.7, 0.99),
        ("template_correlation", 0.35, 0.9),
        ("missing_ml", 60, 0),
        ("rotation_degrees", 75, 0),
        ("shift_mm", 95, 0),
        ("voxel_y_mm", 5, 0.7),
        ("grey_to_white", 0.97, 0.75),
        ("grey_to_white", 0.5, 0.7),
        ("noise", 0.1, 0.01),
        ("entropy", 0.8, 0.3),
    ],
)
def test_each_rule_flags_its_fault_and_not_the_other_side(measurement, value, other):
    table, fingerprints = cohort(30)
    table[measurement] = table[measurement].astype(float)
    table.loc[3, measurement], table.loc[4, measurement] = value, other
    table.loc[5, measurement] = np.nan
    assert flagged(table, fingerprints) == {"sub-03": {measurement}}


def test_a_fifth_of_bad_scans_does_not_hide_them():
    table, fingerprints = cohort(30)
    table.loc[:5, "noise"] = 0.14
    assert len(flagged(table, fingerprints)) == 6


def test_a_small_cohort_is_judged_by_fixed_bounds_alone_and_says_so():
    table, fingerprints = cohort(6)
    table.loc[0, ["noise", "dice"]] = [0.12, 0.7]
    assert flagged(table, fingerprints) == {"sub-00": {"dice"}}
    lines = not_judged(judge(table.drop(columns="entropy"), fingerprints, [False] * 6)[0])
    assert "need 10 scans" in lines[0] and "20 scans" in lines[1] and "entropy (6 scans)" in lines[2]
    assert not_judged(judge(*cohort(20), [False] * 20)[0]) == []


def test_one_file_twice():
    table, fingerprints = cohort(12)
    table.loc[[1, 5], "image_hash"] = "same"  # two subjects: nobody knows whose it is
    table.loc[[2, 7], "image_hash"] = "again"
    table.loc[[2, 7], "subject_id"] = "one"
    fingerprints[7], fingerprints[5] = fingerprints[2], fingerprints[1]
    assert flagged(table, fingerprints) == {name: {"image_hash"} for name in ("sub-01", "sub-05", "sub-07")}
    excluded = [i == 5 for i in range(12)]
    assert set(flagged(table, fingerprints, excluded)) == {"sub-05", "sub-07"}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("block", [512, 5])
def test_second_copies_are_found_across_subjects_only(mirrored, block, monkeypatch):
    monkeypatch.setattr(outliers, "BLOCK", block)
    table, fingerprints = cohort(12)
    copy = fingerprints[2][mirror()] if mirrored else fingerprints[2]
    fingerprints[9] = 1.3 * copy + np.random.default_rng(1).normal(0, 0.4, copy.shape)
    judged, flags = judge(table, fingerprints, [False] * 12)
    assert [i for i, own in enumerate(flags) if own] == [2, 9]
    assert judged["copy_of"][2] == "sub-09" and judged["copy_mirrored"][9] == mirrored
    assert ("mirror image of sub-02" if mirrored else "second copy of sub-02") in flags[9][0].reason
    table.loc[9, "subject_id"] = "sub-02"  # a second session
    assert flagged(table, fingerprints) == {}


def test_nearest_is_that_of_numpy():
    _, fingerprints = cohort(8)
    subjects = np.array(list("aabbcdef"), object)
    correlation, other, _ = nearest(fingerprints, subjects, np.arange(8) != 4)
    x = fingerprints.astype(float)
    every = np.corrcoef(x - x.mean(0), x[:, mirror()] - x.mean(0))
    both = np.stack([every[:8, :8], every[8:, :8]])
    both[:, subjects[:, None] == subjects] = -2
    both[:, :, 4] = -2
    np.testing.assert_allclose(correlation, both.max((0, 2)), atol=1e-3)
    np.testing.assert_array_equal(other, both.max(0).argmax(1))


def test_swapped_sides_are_found():
    table, fingerprints = cohort(30)
    fingerprints[11] = fingerprints[11][mirror()]
    assert flagged(table, fingerprints) == {"sub-11": {"sidedness"}}
    assert np.isnan(sidedness(fingerprints[:19])).all()


@pytest.mark.parametrize("largest", [2000, 21])
def test_sidedness_is_a_ridge_regression_that_leaves_the_scan_out(largest, monkeypatch):
    monkeypatch.setattr(outliers, "LARGEST_REFERENCE", largest)
    _, fingerprints = cohort(24)
    a = fingerprints.astype(float)
    a -= a[:, mirror()]
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    reference = np.unique(np.linspace(0, 23, min(24, largest)).round().astype(int))
    for i, value in enumerate(sidedness(fingerprints)):
        others = a[reference[reference != i]]
        alpha = np.linalg.solve(others @ others.T + RIDGE * np.eye(len(others)), np.ones(len(others)))
        assert value == pytest.approx(a[i] @ others.T @ alpha, abs=1e-3)
