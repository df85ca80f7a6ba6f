"""The families of views as training uses them."""

import pytest
import torch

from neuro_ssl.errors import InputError
from neuro_ssl.views.kaczmarek2025 import Kaczmarek2025
from neuro_ssl.views.random import view_keys
from neuro_ssl.views.standard import Standard
from tests.views.example import SHAPE, head, keys

EVERYTHING = {
    "probability": 0.5,
    "bias_field_probability": 0.5,
    "low_resolution_probability": 0.5,
    "gaussian_noise_probability": 0.5,
    "scale_range": (0.9, 1.1),
    "stretch_range": (0.95, 1.05),
}


@pytest.mark.parametrize("views", [Standard(), Kaczmarek2025(), Standard(**EVERYTHING)])
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

    def test_both_ways_give_the_same(self, views):
        volume = torch.cat([head(11).half(), torch.zeros(1, 1, *SHAPE, dtype=torch.half)])
        one, two = (views.make(volume, keys(12), batched) for batched in (True, False))
        assert torch.equal(one != 0, two != 0)
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-4)  # standard deviations, of which a brain has 0.2

    def test_an_accelerator_never_waits(self, views, monkeypatch):
        """Meta tensors have no values: to read one raises, and so does to copy one from the host here."""

        def refuse(*_, **__):
            raise AssertionError("a tensor made of host numbers: an accelerator waits for the copy")

        for name in ("tensor", "as_tensor", "from_numpy"):
            monkeypatch.setattr(torch, name, refuse)
        places = torch.empty(3, dtype=torch.int64, device="meta")
        volume = torch.empty(3, 1, *SHAPE, dtype=torch.half, device="meta")
        view = views.make(volume, view_keys(0, places, places, 1), batched=True)
        assert (view.shape, view.dtype, view.device.type) == (volume.shape, torch.float32, "meta")
        with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):  # the CPU's way would
            views.make(volume, view_keys(0, places, places, 1), batched=False)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_mixed_precision_computes_in_float32(self, views, dtype):
        volume = head().to(dtype)
        expected = views(volume.float(), keys())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = views(volume, keys())
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, expected)

    def test_the_volume_is_left_alone(self, views):
        volume = head()
        views(volume, keys())
        assert torch.equal(volume, head())


def test_a_new_operation_changes_no_others_numbers():
    """Bias field and low resolution are switched on for some samples: on the others nothing changes."""
    volume, n = head(40), 40
    before = Standard(bias_field_probability=0.0)(volume, keys(n))
    after = Standard(bias_field_probability=0.2, low_resolution_probability=0.2)(volume, keys(n))
    same = torch.tensor([torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert 0.4 < same.float().mean() < 0.9  # of which 0.8² are expected
    # A change that shifted the others' numbers would show in the crop: the mask is that of before.
    assert torch.equal(before != 0, after != 0)


def test_bias_fields_are_about_as_strong_as_their_coefficient():
    flat = torch.ones(50, 1, 30, 30, 30)
    field = Standard(bias_field_coefficient=0.2)._bias_field(flat.clone(), flat > 0, keys(50), batched=True).log()
    assert abs(field.std() / 0.2 - 1) < 0.15
    assert abs(field.mean()) < 0.02  # no constant, which standardisation would take away again


def test_scaling_changes_the_size_of_the_head():
    still = {"probability": 0.0, "bias_field_probability": 0.0, "rotation_degrees": 0.0, "crop_scale": (1.0, 1.0)}
    volume = head(1)
    size = {}
    for factor in (0.8, 1.0, 1.1):
        view = Standard(**still, scale_range=(factor, factor))(volume, keys(1))
        size[factor] = float((view != 0).sum())
    assert abs(size[0.8] / size[1.0] - 0.8**3) < 0.03
    assert abs(size[1.1] / size[1.0] - 1.1**3) < 0.05
    extents = []
    for sample in range(6):
        view = Standard(**still, stretch_range=(0.8, 1.2))(volume, keys(6)[[sample]])
        box = torch.nonzero(view[0, 0])
        extents.append((box.amax(0) - box.amin(0) + 1).float() / torch.tensor([16.0, 22.0, 15.0]))
    spread = torch.stack(extents)
    assert (spread.amax(dim=1) / spread.amin(dim=1)).max() > 1.15  # not the same along all axes


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        (Standard, {"scale_range": (1.1, 0.9)}),
        (Standard, {"crop_scale": (0.9, 1.2)}),
        (Standard, {"bias_field_probability": 1.5}),
        (Standard, {"low_resolution_factor": 0.5}),
        (Standard, {"crop_scale": (0.0, 0.01)}),
        (Standard, {"min_brain": 1.5}),
        (Standard, {"noise_sd": -1.0}),
        (Standard, {"redraws": 0}),
        (Kaczmarek2025, {"redraws": 0}),
        (Kaczmarek2025, {"min_crop_voxels": (200, 40, 40)}),
        (Kaczmarek2025, {"gamma_range": (-0.5, 1.0)}),
        (Kaczmarek2025, {"flip_probability": -0.1}),
    ],
)
def test_values_that_mean_nothing_are_refused(family, wrong):
    with pytest.raises(InputError, match=f"views.{next(iter(wrong))} "):
        family(**wrong)


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
    only_crop = Standard(
        probability=0.0, bias_field_probability=0.0, rotation_degrees=0.0, flip_probability=0.0, crop_scale=(0.6, 0.6)
    )
    shown = only_crop(volume, keys(8)) != 0
    for sample in shown[:, 0]:
        box = torch.nonzero(sample)
        assert (box.amax(0) - box.amin(0) + 1).tolist() == [12, 14, 13]  # 0.6 of 20, 24 and 22
        assert len(box) == 12 * 14 * 13
    one = torch.nonzero(shown[0, 0])
    inside = volume[0, 0][shown[0, 0]]
    expected = (inside - inside.mean()) / inside.std(correction=0)
    torch.testing.assert_close(only_crop(volume, keys(8))[0, 0][tuple(one.T)], expected, atol=1e-4, rtol=1e-4)
