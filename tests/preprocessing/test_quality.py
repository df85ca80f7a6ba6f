import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from nilearn.image import resample_img
from scipy.spatial.transform import Rotation

from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.quality import TEMPLATE_CENTRE_MM, measure_scan, measure_volume, mirror

GRID = Grid.named("4mm")
NOISE = 8.0


@pytest.fixture(scope="module")
def phantom():
    """Slabs of 20, 70 and 100 with noise, one tissue each; around them exactly 0."""
    voxels = np.repeat([0, 20, 70, 100, 0], [10, 8, 28, 24, 10])[:, None, None] * np.ones((80, 60, 60))
    mask = np.zeros(voxels.shape, bool)
    mask[10:70, 5:55, 5:55] = True
    voxels = np.where(mask, voxels + np.random.default_rng(0).normal(0, NOISE, voxels.shape), 0)
    return voxels.astype(np.float32), mask


def test_a_scan_of_known_tissues_noise_and_pose(phantom):
    turn = Rotation.from_euler("xyz", [10, -20, 30], degrees=True)
    to_scan = np.eye(4)
    to_scan[:3, :3] = turn.as_matrix()
    to_scan[:3, 3] = np.array(TEMPLATE_CENTRE_MM) - to_scan[:3, :3] @ TEMPLATE_CENTRE_MM + [3, 0, 4]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 15, degrees=True).as_matrix() @ np.diag([1.0, 1.5, 2.0])
    voxels, mask = phantom
    measured = measure_scan(voxels, mask, affine, to_scan=to_scan)
    assert [measured[f"voxel_{axis}_mm"] for axis in "xyz"] == pytest.approx([1, 1.5, 2])
    assert measured["brain_ml"] == pytest.approx(mask.sum() * 3 / 1000)
    assert measured["rotation_degrees"] == pytest.approx(np.degrees(turn.magnitude()))
    assert measured["shift_mm"] == pytest.approx(5)
    assert measured["noise"] == pytest.approx(NOISE / 100, rel=0.06)
    assert measured["grey_to_white"] == pytest.approx(0.7, abs=0.02)
    assert measured["cnr"] == pytest.approx(30 / NOISE, rel=0.15)
    assert measured["intensity_p50"] == pytest.approx(np.median(voxels[mask]))


def test_scaling_of_intensities_and_affine_registration_leave_the_rest(phantom):
    voxels, mask = phantom
    larger = np.eye(4)
    larger[:3, :3] = np.diag([1.1, 0.9, 1.2])
    one = measure_scan(voxels, mask, np.eye(4), to_scan=np.eye(4))
    other = measure_scan(voxels * np.float32(7), mask, np.eye(4), to_scan=larger)
    assert other["rotation_degrees"] == pytest.approx(0, abs=1e-3)
    for name in ("noise", "cnr", "grey_to_white", "entropy"):
        assert other[name] == pytest.approx(one[name], rel=1e-3)


def test_entropy_is_that_of_the_paper_in_float64(phantom):
    x = np.abs(phantom[0].astype(np.float64)).ravel()
    share = x / np.sqrt((x**2).sum())
    share = share[share > 0]
    most = np.sqrt(x.size) * np.log(np.sqrt(x.size))
    measured = measure_scan(*phantom, np.eye(4), to_scan=np.eye(4))
    assert measured["entropy"] == pytest.approx(-(share * np.log(share)).sum() / most, rel=1e-5)


def test_a_mask_over_nothing_has_no_contrast_but_no_error_either():
    voxels, mask = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), bool)
    voxels[0, 0, 0] = 9
    mask[5:15, 5:15, 5:15] = True
    with np.errstate(divide="raise", invalid="raise"):
        measured = measure_scan(voxels, mask, np.eye(4), to_scan=np.eye(4))
    assert all(np.isnan(measured[name]) for name in ("cnr", "noise", "grey_to_white"))


def brain(scaling=1.0, mirrored=False):
    """The template as a volume on the grid of the tests, about its centre smaller or larger, and made asymmetric."""
    image, mask = load_mni152_template(resolution=2), load_mni152_brain_mask(resolution=2)
    affine = GRID.affine.copy()
    affine[:3, :3] /= scaling
    affine[:3, 3] = (np.array(GRID.origin_mm) - TEMPLATE_CENTRE_MM) / scaling + TEMPLATE_CENTRE_MM
    resample = {"target_affine": affine, "target_shape": GRID.shape[::-1], "force_resample": True, "copy_header": True}
    volume = resample_img(image, **resample).get_fdata()
    volume *= resample_img(mask, **resample, interpolation="nearest").get_fdata()
    x = affine[0, 0] * np.arange(GRID.shape[2])[:, None, None] + affine[0, 3]
    volume *= 1 + 0.5 * np.sin(x / 8) * (-1 if mirrored else 1)
    return volume.transpose(2, 1, 0).astype(np.float16)


@pytest.mark.parametrize("scaling", [1, 0.85])
def test_the_template_agrees_with_itself_at_any_size(scaling):
    measured, _ = measure_volume(brain(scaling), GRID)
    assert measured["dice"] > 0.96
    assert measured["missing_ml"] < 1
    shifted, _ = measure_volume(np.roll(brain(scaling), 4, 1), GRID)  # by 16 mm
    assert shifted["dice"] < 0.92
    assert shifted["template_correlation"] < 0.7 * measured["template_correlation"]


def test_a_lobe_that_is_missing_is_measured():
    volume = brain()
    volume[:, 32:, 24:] = 0  # what lies right of 0 and in front of -4 mm
    measured, _ = measure_volume(volume, GRID)
    assert measured["missing_ml"] > 100


def test_mirroring_a_fingerprint_is_mirroring_the_brain():
    plain, swapped = (measure_volume(brain(mirrored=mirrored), GRID)[1].astype(float) for mirrored in (False, True))
    assert np.corrcoef(plain[mirror()], swapped)[0, 1] > 0.99
    assert np.corrcoef(plain, swapped)[0, 1] < 0.5
    np.testing.assert_array_equal(mirror()[mirror()], np.arange(len(plain)))


def test_nothing_at_all_is_compared_without_an_error():
    measured, fingerprint = measure_volume(np.zeros(GRID.shape, np.float16), GRID)
    assert measured["dice"] == 0 and measured["template_correlation"] == 0
    assert not fingerprint.any()
