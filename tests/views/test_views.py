import math

import pytest
import torch
from monai.transforms import Flip, Rotate

from neuro_ssl.views.geometry import choose_crop, resample, view_matrix
from neuro_ssl.views.intensity import blur, contrast, cutout, gamma, noise, standardise
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025
from neuro_ssl.views.random import view_keys
from neuro_ssl.views.standard import Standard

SHAPE = (20, 24, 22)


def head(batch=2):
    """Smooth textured ellipsoids: brain > 0, background 0."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = (z / 0.8) ** 2 + (y / 0.9) ** 2 + (x / 0.7) ** 2 < 1
    texture = 1 + 0.3 * torch.sin(4 * x + 2) * torch.cos(3 * y) + 0.2 * z
    return (inside * texture).expand(batch, 1, *SHAPE).clone()


def keys(n=2, epoch=0, view=0):
    return view_keys(0, torch.full((n,), epoch), torch.arange(n), view)


def matrix(start=(0, 0, 0), size=SHAPE[::-1], flip=False, rotation=(0.0, 0.0, 0.0)):
    return view_matrix(
        torch.tensor([start]), torch.tensor([size]), torch.tensor([flip]), torch.tensor([rotation]), torch.Size(SHAPE)
    )


def test_identity_leaves_the_volume_alone():
    volume = head(1)
    image, mask = resample(volume, matrix())
    torch.testing.assert_close(image, volume, atol=1e-5, rtol=0)
    assert torch.equal(mask, volume > 0)


def test_flip_exchanges_left_and_right():
    volume = head(1)
    image, _ = resample(volume, matrix(flip=True))
    torch.testing.assert_close(image[0], Flip(spatial_axis=2)(volume[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_equals_monai(axis):
    # MONAI's angles are about the array's axes (z, y, x); ours about (x, y, z) with x → y, y → z, z → x positive.
    volume, angle = head(1), 0.3
    ours = [0.0, 0.0, 0.0]
    ours[2 - axis] = angle
    image, _ = resample(volume, matrix(rotation=tuple(ours)))
    theirs = [0.0, 0.0, 0.0]
    theirs[axis] = angle
    candidates = [
        Rotate(tuple(sign * a for a in theirs), keep_size=True, mode="bilinear", padding_mode="zeros")(volume[0])
        for sign in (1, -1)
    ]
    errors = [float((image[0] - candidate).abs().max()) for candidate in candidates]
    assert min(errors) < 1e-3
    assert max(errors) > 0.1


def test_crop_then_resize_equals_interpolating_the_crop():
    volume = head(1)
    start, size = (3, 4, 2), (16, 15, 14)  # x, y, z
    x, y, z = (slice(s, s + n) for s, n in zip(start, size, strict=True))
    expected = torch.nn.functional.interpolate(volume[:, :, z, y, x], SHAPE, mode="trilinear")
    image, _ = resample(volume, matrix(start, size))
    inner = (slice(None), slice(None), *(slice(2, -2),) * 3)  # at its faces the crop knows nothing of its surroundings
    torch.testing.assert_close(image[inner], expected[inner], atol=1e-4, rtol=0)


def test_crop_without_brain_is_redrawn_then_centred():
    volume = torch.zeros(3, 1, *SHAPE)
    volume[0, 0, :4, :4, :4] = 1  # brain in one corner alone
    volume[1, 0, 10, 12, 11] = 1
    corner, far = torch.tensor([0, 0, 0]), torch.tensor([15, 15, 12])
    starts = torch.stack([far, corner]).expand(3, 2, 3)
    sizes = torch.tensor([[5, 6, 7], [4, 4, 4]]).expand(3, 2, 3)
    start, size = choose_crop(volume, starts, sizes)
    assert start[0].tolist() == [0, 0, 0]
    assert size[0].tolist() == [4, 4, 4]
    for sample in (1, 2):  # neither candidate shows brain; the last volume has none at all
        assert size[sample].tolist() == [5, 6, 7]
        assert start[sample].tolist() == [(22 - 5) // 2, (24 - 6) // 2, (20 - 7) // 2]


def test_crop_counts_brain_voxels_exactly():
    volume = (torch.rand(4, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    starts = torch.tensor([[[2, 3, 4]]]).expand(4, 1, 3)
    sizes = torch.tensor([[[9, 8, 7]]]).expand(4, 1, 3)
    share = volume[:, 0, 4:11, 3:11, 2:11].sum(dim=(1, 2, 3)) / volume.sum(dim=(1, 2, 3, 4))
    for sample in range(4):
        for factor, accepted in ((0.999, True), (1.001, False)):
            start, _ = choose_crop(
                volume[[sample]], starts[[sample]], sizes[[sample]], min_brain=float(share[sample]) * factor
            )
            assert (start[0].tolist() == [2, 3, 4]) == accepted


@pytest.mark.parametrize("views", [Standard(), Kaczmarek2025()])
class TestFamilies:
    def test_background_is_zero_and_brain_standardised(self, views):
        view = views(head().half(), keys())
        assert view.dtype == torch.float32
        assert view.shape == (2, 1, *SHAPE)
        for sample in view:
            brain = sample[sample != 0]
            assert 0 < len(brain) <= sample.numel()
            assert abs(brain.mean()) < 1e-4
            assert abs(brain.std(correction=0) - 1) < 1e-3

    def test_views_depend_on_their_keys_alone(self, views):
        volume = head()
        batch = views(volume, keys())
        assert torch.equal(batch, views(volume, keys()))
        assert not torch.equal(batch, views(volume, keys(view=1)))
        assert not torch.equal(batch, views(volume, keys(epoch=1)))
        torch.testing.assert_close(batch[1:], views(volume[1:], keys()[1:]))

    def test_an_empty_volume_stays_finite(self, views):
        assert torch.equal(views(torch.zeros(1, 1, *SHAPE), keys(1)), torch.zeros(1, 1, *SHAPE))


def test_kaczmarek2025_crops_as_severely_as_the_paper():
    # REFERENCE: mean volume fraction 0.22, median ratio of the axis scales 2.05.
    _, sizes = Kaczmarek2025().candidate_crops(torch.Size((150, 192, 192)), keys(400))
    fraction = sizes[:, 0] / torch.tensor([192, 192, 150])
    assert abs(fraction.prod(dim=1).mean() - 0.22) < 0.04
    assert abs((fraction.amax(1) / fraction.amin(1)).median() - 2.05) < 0.3


def test_kaczmarek2025_shift_changes_nothing():
    volume = head()
    torch.testing.assert_close(
        Kaczmarek2025(shift=0.0)(volume, keys()), Kaczmarek2025(shift=0.5)(volume, keys()), atol=1e-4, rtol=1e-4
    )


def test_standard_crops_keep_place_and_size():
    volume = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) + 0.5
    only_crop = Standard(probability=0.0, rotation_degrees=0.0, flip_probability=0.0, crop_scale=(0.6, 0.6))
    shown = only_crop(volume, keys(8)) != 0
    for sample in shown[:, 0]:
        box = torch.nonzero(sample)
        assert (box.amax(0) - box.amin(0) + 1).tolist() == [12, 14, 13]  # 0.6 of 20, 24 and 22
        assert len(box) == 12 * 14 * 13
    one = torch.nonzero(shown[0, 0])
    inside = volume[0, 0][shown[0, 0]]
    expected = (inside - inside.mean()) / inside.std(correction=0)
    torch.testing.assert_close(only_crop(volume, keys(8))[0, 0][tuple(one.T)], expected, atol=1e-4, rtol=1e-4)


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
