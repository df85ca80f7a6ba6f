"""The families of views as training uses them."""

import pytest
import torch

from neuro_ssl.errors import InputError
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025
from neuro_ssl.views.standard import Standard
from tests.views.example import SHAPE, head, keys


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


