import nibabel as nib
import numpy as np
import pytest
import torch

from neuro_ssl.benchmarking import reference
from neuro_ssl.benchmarking.material import Material
from neuro_ssl.grid import Grid
from neuro_ssl.losses import nt_xent
from tests.conftest import IXI

HEAD = IXI / "IXI206-HH-1650_T1.nii.gz"
MASK = IXI / "masks" / "IXI206-HH-1650_mask.nii.gz"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return Material.make(tmp_path_factory.mktemp("benchmark"), HEAD, MASK, Grid.named("8mm"), 3)


def test_both_sides_read_the_same_brains(material):
    shape = material.store.grid.shape
    for name, image, mask in zip(material.store.manifest["volume"], material.images, material.masks, strict=True):
        stored = material.store.read(name)
        voxels, inside = reference.load(image, mask, shape)
        assert voxels.dtype == inside.dtype == np.float64
        np.testing.assert_array_equal(voxels, stored)
        np.testing.assert_array_equal(inside, stored > 0)
    assert nib.load(material.images[0]).shape == tuple(
        n + margin for n, margin in zip(shape[::-1], (1, 37, 43), strict=True)
    )
    brightness = [material.store.read(name).max() for name in material.store.manifest["volume"]]
    assert brightness[0] < brightness[1] < brightness[2]


def test_reference_views_are_standardised_and_never_the_same(material):
    item = reference.load(material.images[0], material.masks[0], material.store.grid.shape)
    views = reference.Views(material.store.grid.shape)
    views.seed(0)
    made = [views(*item) for _ in range(6)]
    for view in made:
        brain = view[view != 0]
        assert view.shape == (1, *material.store.grid.shape) and 0 < len(brain) < view.numel()
        assert (float(brain.mean()), float(brain.std())) == pytest.approx((0, 1), abs=1e-3)
    assert not any(torch.equal(a, b) for i, a in enumerate(made) for b in made[:i])


def test_reference_loss_is_ours_of_as_many_subjects_as_pairs():
    first, second = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0)).double()
    ours = nt_xent(first, second, torch.arange(7), 0.5)[0]
    assert reference.nt_xent(first, second, 0.5) == pytest.approx(float(ours), rel=1e-12)
