from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.registration import register
from neuro_ssl.preprocessing.template import TEMPLATE_CENTRE_MM

IXI = Path(__file__).parents[1] / "data/ixi_2mm"


def brain(subject):
    voxels, affine = read_nifti(next(IXI.glob(f"{subject}*_T1.nii.gz")))
    mask, _ = read_nifti(next(IXI.glob(f"masks/{subject}*_mask.nii.gz")))
    return voxels, mask > 0.5, affine


def rigid(degrees, millimetres, axis=(1, -2, 0.5), direction=(2, 1, -1)):
    axis, direction = (np.array(v) / np.linalg.norm(v) for v in (axis, direction))
    rotation = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    return nib.affines.from_matvec(rotation, millimetres * direction)


def moved(voxels, mask, affine, motion):
    """The head after a motion in the scanner, scanned again on the same grid: resampled, not only relabelled."""
    pull = np.linalg.inv(affine) @ np.linalg.inv(motion) @ affine
    image = ndimage.affine_transform(voxels, pull[:3, :3], pull[:3, 3], order=1)
    return image, ndimage.affine_transform(mask.astype(np.float32), pull[:3, :3], pull[:3, 3], order=1) > 0.5


def difference(first, second, mask, affine):
    """Median distance (mm) over the brain, and angle (degrees), between two maps from template to scan."""
    inside = nib.affines.apply_affine(np.linalg.inv(first) @ affine, np.argwhere(mask)[::50])  # template mm
    distance = np.linalg.norm(
        nib.affines.apply_affine(first, inside) - nib.affines.apply_affine(second, inside), axis=1
    )
    angle = Rotation.from_matrix(np.linalg.inv(first)[:3, :3] @ second[:3, :3]).magnitude()
    return np.median(distance), np.degrees(angle)


def test_the_template_centre_is_the_templates():
    mask = load_mni152_brain_mask(resolution=1)
    centre = nib.affines.apply_affine(mask.affine, ndimage.center_of_mass(mask.get_fdata()))
    np.testing.assert_allclose(TEMPLATE_CENTRE_MM, centre, atol=0.01)


@pytest.mark.parametrize(
    ("subject", "degrees", "millimetres", "axis"),
    [
        ("IXI383", 15, 20, (1, -2, 0.5)),
        pytest.param("IXI206", 15, 20, (-1, 0.3, 0.3), marks=pytest.mark.slow),
        *(
            pytest.param(subject, degrees, 20, axis, marks=pytest.mark.slow)
            for subject in ("IXI206", "IXI383", "IXI443", "IXI527")
            for degrees in (8, 15)
            for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 1, -1))
        ),
    ],
)
def test_a_head_that_moved_lands_in_the_same_place(subject, degrees, millimetres, axis):
    voxels, mask, affine = brain(subject)
    still = register(voxels, mask, affine)
    motion = rigid(degrees, millimetres, axis)
    found = register(*moved(voxels, mask, affine, motion), affine)
    distance, angle = difference(still, np.linalg.inv(motion) @ found, mask, affine)
    assert distance < 1 and angle < 1
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1, abs=1e-6)


def test_the_template_itself_is_found_where_it_was_put():
    """An independent truth, affine: the template, turned, scaled and moved by a known matrix."""
    template = load_mni152_template(resolution=2)
    mask = load_mni152_brain_mask(resolution=2).get_fdata() > 0
    truth = rigid(10, 15) @ np.diag([1.08, 0.95, 1.03, 1])
    found = register(template.get_fdata(dtype=np.float32), mask, truth @ template.affine, "affine")
    inside = nib.affines.apply_affine(template.affine, np.argwhere(mask)[::50])
    distance = np.linalg.norm(nib.affines.apply_affine(found, inside) - nib.affines.apply_affine(truth, inside), axis=1)
    assert np.median(distance) < 0.5


def test_registered_means_registered_already():
    voxels, mask, affine = brain("IXI383")
    np.testing.assert_array_equal(register(voxels, mask, affine, "none"), np.eye(4))


def test_a_brain_too_thin_to_register():
    voxels, mask, affine = brain("IXI383")
    with pytest.raises(InputError, match="cannot be registered .*check its brain mask"):
        register(voxels[:, :, 45:48], mask[:, :, 45:48], affine)
