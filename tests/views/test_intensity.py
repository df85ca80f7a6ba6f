import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neuro_ssl.views.intensity import (
    bias_field,
    blur,
    contrast,
    cutout,
    gamma,
    low_resolution,
    noise,
    standardise,
)
from tests.views.example import SHAPE, head, keys


def test_standardise_equals_numpy_inside_the_mask():
    volume = head()
    out = standardise(volume, volume > 0)
    brain = volume[0][volume[0] > 0].double()
    expected = (brain - brain.mean()) / math.sqrt(brain.var(correction=0))
    torch.testing.assert_close(out[0][volume[0] > 0], expected.float(), atol=1e-5, rtol=1e-5)


def test_gamma_equals_monai():
    from monai.transforms import AdjustContrast

    volume = head(2)
    ours = gamma(volume, torch.tensor([0.6, 1.4]))
    for sample, exponent in enumerate((0.6, 1.4)):
        theirs = AdjustContrast(gamma=exponent)(volume[sample])
        torch.testing.assert_close(ours[sample], torch.as_tensor(theirs), atol=1e-5, rtol=1e-5)


def test_contrast_scales_deviations_inside_the_brain():
    volume = head()
    out = contrast(volume, volume > 0, torch.tensor([0.5, 2.0]))
    for sample, factor in enumerate((0.5, 2.0)):
        before, after = volume[sample][volume[sample] > 0], out[sample][volume[sample] > 0]
        torch.testing.assert_close(after.mean(), before.mean())
        torch.testing.assert_close(after.std(), before.std() * factor)


def test_noise_is_rician():
    from scipy.stats import kstest, rice

    out = noise(torch.full((1, 1, 40, 40, 40), 2.0), keys(1), torch.tensor([0.5]))
    assert kstest(out.flatten().numpy(), rice(2.0 / 0.5, scale=0.5).cdf).pvalue > 1e-3
    torch.testing.assert_close(noise(head(), keys(), torch.zeros(2)), head())


def test_blur_equals_scipy_inside_and_keeps_a_flat_brain_flat():
    from scipy.ndimage import gaussian_filter

    volume = torch.rand(1, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0)) + 1
    everywhere = torch.ones_like(volume, dtype=torch.bool)
    ours = blur(volume, everywhere, torch.tensor([0.8]))[0, 0]
    theirs = torch.tensor(gaussian_filter(volume[0, 0].numpy(), 0.8, radius=3))
    inner = (slice(3, -3),) * 3
    torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-5, rtol=1e-5)
    flat = (head() > 0).float()
    torch.testing.assert_close(blur(flat, flat > 0, torch.tensor([1.0, 0.0])), flat)


def test_cutout_takes_a_box_out():
    everything = torch.ones(2, 1, 20, 20, 20, dtype=torch.bool)
    left = cutout(everything, keys(), torch.tensor([0.5, 0.0]))
    removed = torch.nonzero(~left[0, 0])
    assert 5**3 <= len(removed) <= 11**3  # a box of side 10, its centre anywhere
    assert len(removed) == (removed.amax(0) - removed.amin(0) + 1).prod()
    assert left[1].all()
