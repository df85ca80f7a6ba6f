import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuro_ssl.views.intensity import (
    bias_field_,
    blur_,
    contrast_,
    cutout,
    gamma_,
    low_resolution_,
    noise_,
    standardise,
)
from tests.views.example import SHAPE, head, keys


def test_standardise_equals_numpy_inside_the_mask():
    volume = head()
    out = standardise(volume, volume > 0)
    brain = volume[0][volume[0] > 0].double()
    expected = (brain - brain.mean()) / math.sqrt(brain.var(correction=0))
    torch.testing.assert_close(out[0][volume[0] > 0], expected.float(), atol=1e-5, rtol=1e-5)


def test_standardise_keeps_its_digits_and_its_argument():
    # A small spread on a large mean: the mean of squares less the square of the mean would keep two digits in float32.
    volume = head() * 0.01 + 10 * (head() > 0)
    before = volume.clone()
    out = standardise(volume, volume > 0)
    assert torch.equal(volume, before)
    brain = volume[0][volume[0] > 0].double()
    expected = (brain - brain.mean()) / brain.std(correction=0)
    torch.testing.assert_close(out[0][volume[0] > 0].double(), expected, atol=1e-3, rtol=1e-4)
    assert not out[volume == 0].any()


def test_gamma_equals_monai():
    from monai.transforms import AdjustContrast

    volume = head(2)
    ours = gamma_(volume.clone(), torch.tensor([0.6, 1.4]))
    for sample, exponent in enumerate((0.6, 1.4)):
        theirs = AdjustContrast(gamma=exponent)(volume[sample])
        torch.testing.assert_close(ours[sample], torch.as_tensor(theirs), atol=1e-5, rtol=1e-5)


def test_contrast_scales_deviations_inside_the_brain():
    volume = head()
    out = contrast_(volume.clone(), volume > 0, torch.tensor([0.5, 2.0]))
    for sample, factor in enumerate((0.5, 2.0)):
        before, after = volume[sample][volume[sample] > 0], out[sample][volume[sample] > 0]
        torch.testing.assert_close(after.mean(), before.mean())
        torch.testing.assert_close(after.std(), before.std() * factor)


def test_noise_is_rician():
    from scipy.stats import kstest, rice

    out = noise_(torch.full((1, 1, 40, 40, 40), 2.0), keys(1), torch.tensor([0.5]))
    assert kstest(out.flatten().numpy(), rice(2.0 / 0.5, scale=0.5).cdf).pvalue > 1e-3
    torch.testing.assert_close(noise_(head(), keys(), torch.zeros(2)), head())


def test_gaussian_noise_is_gaussian_and_of_its_own():
    from scipy.stats import kstest, norm

    volume = torch.full((1, 1, 40, 40, 40), 2.0)
    out = noise_(volume.clone(), keys(1), torch.tensor([0.5]), rician=False, stream="another")
    assert kstest((out - 2).flatten().numpy(), norm(scale=0.5).cdf).pvalue > 1e-3
    other = noise_(volume.clone(), keys(1), torch.tensor([0.5]), rician=False)
    assert abs(np.corrcoef(out.flatten(), other.flatten())[0, 1]) < 0.02


@pytest.mark.parametrize("rician", [True, False])
def test_noise_inside_the_mask_is_the_same_as_everywhere(rician):
    volume, sd = head(), torch.tensor([0.2, 0.5])
    everywhere = noise_(volume.clone(), keys(), sd, rician=rician)
    inside = noise_(volume.clone(), keys(), sd, rician=rician, mask=volume > 0)
    torch.testing.assert_close(inside, torch.where(volume > 0, everywhere, volume), atol=1e-6, rtol=1e-6)


def test_bias_field_equals_monai():
    from monai.transforms import RandBiasField

    powers = [(k, j, i) for k in range(4) for j in range(4 - k) for i in range(4 - k - j)]
    values = np.random.default_rng(0).uniform(-0.3, 0.3, (2, len(powers)))
    coefficients = torch.zeros(2, 4, 4, 4)
    for n, place in enumerate(powers):
        coefficients[(slice(None), *place)] = torch.tensor(values[:, n], dtype=torch.float32)
    volume = head()
    ours = bias_field_(volume.clone(), coefficients)
    for sample in range(2):
        reference = RandBiasField(degree=3, prob=1.0)
        reference.randomize(SHAPE)
        reference._coeff = values[sample].tolist()
        theirs = torch.as_tensor(reference(volume[sample], randomize=False))
        torch.testing.assert_close(ours[sample], theirs, atol=1e-5, rtol=1e-5)
        assert float((ours[sample] / volume[sample])[volume[sample] > 0].std()) > 0.05


@pytest.mark.parametrize("boxed", [True, False])
def test_low_resolution_equals_pooling_and_interpolation(boxed):
    volume = torch.rand(3, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones_like(volume, dtype=torch.bool)
    factors = torch.tensor([[2, 1, 1], [1, 3, 1], [4, 2, 2]])
    ours = low_resolution_(volume.clone(), everywhere, factors.float(), boxed=boxed)
    for sample, factor in enumerate(factors.tolist()):
        coarse = F.avg_pool3d(volume[[sample]], factor)
        theirs = F.interpolate(coarse, (24, 24, 24), mode="trilinear")
        torch.testing.assert_close(ours[[sample]], theirs, atol=1e-5, rtol=1e-5)


def test_low_resolution_with_a_fraction_keeps_flat_brains_flat_and_averages():
    flat = (head() > 0).float()
    factors = torch.tensor([[1.7, 1.7, 1.7], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(low_resolution_(flat.clone(), flat > 0, factors), flat)
    volume = head() + (head() > 0) * torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    out = low_resolution_(volume.clone(), volume > 0, factors)
    brain = volume[0] > 0
    assert out[0][brain].std() < 0.8 * volume[0][brain].std()
    torch.testing.assert_close(out[0][brain].mean(), volume[0][brain].mean(), atol=0.01, rtol=0)
    torch.testing.assert_close(out[1], volume[1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("change", [blur_, low_resolution_])
def test_only_the_box_of_the_brain_gives_the_same(change):
    volume = torch.cat([head(2), torch.zeros(1, 1, *SHAPE)])
    parameter = torch.tensor([0.7, 0.0, 1.0]) if change is blur_ else torch.tensor([[1.0, 1.5, 1.0]] * 3)
    whole, box = (change(volume.clone(), volume > 0, parameter, boxed=boxed) for boxed in (False, True))
    torch.testing.assert_close(whole, box, atol=1e-5, rtol=1e-5)
    assert not torch.equal(whole[0], volume[0])


def test_blur_equals_scipy_inside_and_keeps_a_flat_brain_flat():
    from scipy.ndimage import gaussian_filter

    volume = torch.rand(1, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0)) + 1
    everywhere = torch.ones_like(volume, dtype=torch.bool)
    ours = blur_(volume.clone(), everywhere, torch.tensor([0.8]))[0, 0]
    theirs = torch.tensor(gaussian_filter(volume[0, 0].numpy(), 0.8, radius=3))
    inner = (slice(3, -3),) * 3
    torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-5, rtol=1e-5)
    flat = (head() > 0).float()
    torch.testing.assert_close(blur_(flat.clone(), flat > 0, torch.tensor([1.0, 0.0])), flat)


def test_cutout_takes_a_box_out():
    everything = torch.ones(2, 1, 20, 20, 20, dtype=torch.bool)
    left = cutout(everything, keys(), torch.tensor([0.5, 0.0]))
    removed = torch.nonzero(~left[0, 0])
    assert 5**3 <= len(removed) <= 11**3  # a box of side 10, its centre anywhere
    assert len(removed) == (removed.amax(0) - removed.amin(0) + 1).prod()
    assert left[1].all()
