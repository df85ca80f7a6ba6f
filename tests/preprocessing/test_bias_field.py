from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.bias_field import correct_bias_field
from neuro_ssl.preprocessing.nifti import read_nifti

IXI = Path(__file__).parents[1] / "data/ixi_2mm"


def smooth_field(shape, affine):
    world = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return np.exp(0.3 * np.sin(world[..., 0] / 60) + 0.004 * world[..., 1] - 0.003 * world[..., 2]).astype(np.float32)


def spread(log_field, mask):
    """Standard deviation of a logarithmic field inside the brain: 0.1 is about 10 %."""
    return float(log_field[mask].std())


def test_a_field_that_was_planted_is_removed():
    template = load_mni152_template(resolution=4)
    voxels, mask = template.get_fdata(dtype=np.float32), load_mni152_brain_mask(resolution=4).get_fdata() > 0
    voxels = np.where(mask, voxels, 0)
    field = smooth_field(voxels.shape, template.affine)
    without, corrected = (correct_bias_field(image, template.affine) for image in (voxels, voxels * field))
    planted = spread(np.log(field), mask)
    left = spread(np.log(corrected[mask] / without[mask])[None], np.ones((1, mask.sum()), bool))
    assert planted > 0.2
    assert left < 0.1 * planted


def test_a_real_brain_becomes_more_uniform():
    voxels, affine = read_nifti(next(IXI.glob("IXI383*")))
    mask, _ = read_nifti(next(IXI.glob("masks/IXI383*")))
    voxels, mask = voxels[::2, ::2, ::2], mask[::2, ::2, ::2]
    corrected = correct_bias_field(voxels, affine @ np.diag([2, 2, 2, 1]))

    def variation(image):
        inside = image[mask > 0.5]
        return inside.std() / inside.mean()

    assert variation(corrected) < 0.95 * variation(voxels)
    assert corrected.dtype == np.float32 and corrected.shape == voxels.shape


def test_an_image_of_two_voxels_thickness_is_refused():
    voxels = np.random.default_rng(0).random((2, 2, 2), np.float32)
    with pytest.raises(InputError, match="N4 cannot correct .* bias_correction=false"):
        correct_bias_field(voxels, np.eye(4))
