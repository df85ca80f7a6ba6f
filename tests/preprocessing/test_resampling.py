import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask
from nilearn.image import resample_img
from scipy import ndimage

from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.registration import TEMPLATE_CENTRE_MM, register
from neuro_ssl.preprocessing.resampling import resample_brain


@pytest.fixture(scope="module")
def template():
    return load_mni152_brain_mask(resolution=2)


def ellipsoid(shape, affine, radii_mm, centre_mm):
    world = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return (((world - centre_mm) / radii_mm) ** 2).sum(-1) < 1


@pytest.mark.filterwarnings("ignore:Resampling binary images")
@pytest.mark.parametrize("origin", [(-98, -134, -72), (500, -20, 3)])
def test_the_template_lands_on_itself_wherever_its_header_puts_it(template, origin):
    mask = template.get_fdata() > 0
    affine = template.affine.copy()
    affine[:3, 3] = origin
    grid = Grid.named("2mm")
    voxels = np.ones(mask.shape, np.float32)
    _, inside = resample_brain(voxels, mask, affine, register(voxels, mask, affine, "centre"), grid)
    image = nib.Nifti1Image(mask.astype(np.float32), template.affine)
    oracle = resample_img(image, grid.affine, grid.shape[::-1], interpolation="linear").get_fdata() >= 0.5
    differing = inside ^ oracle.transpose(2, 1, 0)
    assert differing.sum() < 0.005 * inside.sum()


def test_oblique_anisotropic_image_against_nilearn():
    rng = np.random.default_rng(0)
    angle = 0.3
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = nib.affines.from_matvec(rotation @ np.diag([3.0, 4.0, 5.0]), [-90, -80, -70])
    shape = (60, 45, 36)
    mask = ellipsoid(shape, affine, (65, 80, 60), affine[:3, :3] @ np.array([30, 22, 18]) + affine[:3, 3])
    voxels = ndimage.gaussian_filter(rng.random(shape), 1.5).astype(np.float32) + 1
    grid = Grid.named("3mm")  # no axis is coarser, so nothing is smoothed
    linear = np.array([[1.1, 0.1, 0], [-0.1, 0.9, 0.2], [0, -0.2, 1]])
    centre = nib.affines.apply_affine(affine, ndimage.center_of_mass(mask))
    to_scan = nib.affines.from_matvec(linear, centre - linear @ TEMPLATE_CENTRE_MM)
    values, inside = resample_brain(voxels, mask, affine, to_scan, grid)

    image = nib.Nifti1Image(voxels, np.linalg.inv(to_scan) @ affine)
    oracle = resample_img(image, grid.affine, grid.shape[::-1], interpolation="linear").get_fdata().transpose(2, 1, 0)
    deep = ndimage.binary_erosion(inside, iterations=3)
    assert deep.sum() > 5000
    np.testing.assert_allclose(values[deep], oracle[deep], atol=1e-4)
    assert abs(inside.sum() * 27 / (mask.sum() * 60 / np.linalg.det(to_scan[:3, :3])) - 1) < 0.01


@pytest.mark.parametrize("grid", ["1.5mm", "4mm", "7mm"])
def test_a_uniform_brain_stays_uniform_to_its_edge_and_keeps_its_size(grid):
    affine = np.diag([2.0, 2, 2, 1])
    mask = ellipsoid((90, 100, 90), affine, (60, 70, 55), (90, 100, 90))
    voxels = np.where(mask, np.float32(100), np.float32(900))  # bright fat around it must not leak in
    values, inside = resample_brain(voxels, mask, affine, register(voxels, mask, affine, "centre"), Grid.named(grid))
    np.testing.assert_allclose(values[inside], 100, rtol=1e-4)
    assert np.all(values[~inside] == 0)
    assert abs(inside.sum() * Grid.named(grid).spacing_mm ** 3 / (mask.sum() * 8) - 1) < 0.02


def test_coarser_grids_average_rather_than_pick():
    affine = np.diag([1.0, 1, 1, 1])
    mask = np.ones((90, 90, 90), bool)
    voxels = np.random.default_rng(0).normal(100, 20, mask.shape).astype(np.float32)
    to_scan = register(voxels, mask, affine, "centre")
    values, inside = resample_brain(voxels, mask, affine, to_scan, Grid.named("4mm"))
    # A Gaussian of this width divides white noise by (2 sqrt(pi) sigma)^1.5; linear interpolation damps it further.
    sigma = np.sqrt((4**2 - 1) / (8 * np.log(2)))
    assert values[inside].std() < 1.1 * 20 / (2 * np.sqrt(np.pi) * sigma) ** 1.5
