"""The paper's views against MONAI's transforms in the paper's order, on a real head."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, Flip, Resize, Rotate, ShiftIntensity, SpatialCrop
from scipy.ndimage import binary_erosion

from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.views.intensity import standardise
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025, Parameters, render
from tests.conftest import IXI
from tests.views.example import keys

NOTHING = {"start": (0, 0, 0), "flip": False, "angle": 0.0, "offset": 0.0, "exponent": 1.0}


@pytest.fixture(scope="module")
def volume():
    """(1, 1, z, y, x) at 2 mm, intensities from 0 to 1."""
    voxels, _ = read_nifti(IXI / "IXI206-HH-1650_T1.nii.gz")
    mask, _ = read_nifti(IXI / "masks" / "IXI206-HH-1650_mask.nii.gz")
    z, y, x = (slice(index.min() - 3, index.max() + 4) for index in np.nonzero(mask.T > 0.5))
    brain = np.where(mask > 0.5, np.maximum(voxels / voxels.max(), 1e-3), 0).astype(np.float32)
    return torch.from_numpy(brain.T[z, y, x].copy())[None, None]


def parameters(size, start=(0, 0, 0), flip=False, angle=0.0, offset=0.0, exponent=1.0):
    return Parameters(*(torch.tensor([value]) for value in (start, size, flip, angle, offset, exponent)))


def monai_view(volume, drawn):
    """Crop, resize, flip, rotation, shift and gamma, one after another; image and mask."""
    (start,), (size,), (flip,), (angle,), (offset,), (exponent,) = drawn
    pair = []
    for part, mode in ((volume[0], "bilinear"), ((volume[0] > 0).float(), "nearest")):
        part = SpatialCrop(roi_start=start.flip(0), roi_end=(start + size).flip(0))(part)
        part = Resize(volume.shape[2:], mode="trilinear" if mode == "bilinear" else mode)(part)
        part = Flip(spatial_axis=2)(part) if flip else part
        pair.append(Rotate((float(angle), 0.0, 0.0), mode=mode)(part))  # padding_mode="border" by default
    image = AdjustContrast(float(exponent))(ShiftIntensity(float(offset), safe=False)(pair[0]))
    return torch.as_tensor(image)[None], torch.as_tensor(pair[1])[None] > 0.5


def difference(volume, drawn, batched, monai_drawn=None):
    """Inside both masks, two voxels from their edges, in standard deviations of the brain that they have in common."""
    ours, (theirs, mask) = render(volume, drawn, batched), monai_view(volume, monai_drawn or drawn)
    common = (ours != 0) & mask
    inside = binary_erosion(common[0, 0].numpy(), iterations=2, border_value=1)
    assert inside.sum() > 5000
    return (standardise(ours, common) - standardise(theirs, common))[0, 0].abs().numpy()[inside]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("change", ["flip", "crop", "rotation", "gamma", "all but the rotation"])
def test_one_resampling_equals_monai(volume, change, batched):
    size = volume.shape[:1:-1]
    part = {"size": (50, 61, 47), "start": (9, 8, 12)}
    drawn = {
        "flip": {"size": size, "flip": True},
        "crop": part,
        "rotation": {"size": size, "angle": 0.6},
        "gamma": {"size": size, "offset": 0.3, "exponent": 0.6},
        "all but the rotation": part | {"flip": True, "offset": -0.4, "exponent": 1.4},
    }[change]
    assert difference(volume, parameters(**drawn), batched).max() < 3e-4


@pytest.mark.parametrize("batched", [True, False])
def test_with_crop_and_rotation_only_the_second_interpolation_is_missing(volume, batched):
    drawn = parameters((50, 61, 47), (9, 8, 12), flip=True, angle=0.6, offset=0.3, exponent=1.3)
    wrong = drawn._replace(angle_radians_B=-drawn.angle_radians_B)
    assert (np.quantile(difference(volume, drawn, batched), [0.5, 0.95]) < [0.02, 0.15]).all()
    assert np.median(difference(volume, drawn, batched, wrong)) > 0.3


def test_masks_differ_by_no_more_than_monais_half_voxel(volume):
    # MONAI's nearest voxel when resizing is the one before, not the nearer one.
    drawn = parameters((50, 61, 47), (9, 8, 12))
    ours, (_, mask) = render(volume, drawn, False) != 0, monai_view(volume, drawn)
    overlap = 2 * (ours & mask).sum() / (ours.sum() + mask.sum())
    assert overlap > 0.96


def test_the_same_parameters_are_drawn_either_way(volume):
    views = Kaczmarek2025()
    many = volume.expand(16, -1, -1, -1, -1)
    for one, two in zip(views.draw(many, keys(16), True), views.draw(many, keys(16), False), strict=True):
        assert torch.equal(one, two)
