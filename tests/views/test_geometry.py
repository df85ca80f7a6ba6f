"""Where views look, and that both ways of looking there show the same."""

import pytest
import torch
from monai.transforms import Flip, Rotate

from neuro_ssl.views.geometry import brain_box, choose_crop
from neuro_ssl.views.resample import resample
from tests.views.example import SHAPE, head, matrix

WHOLE = torch.tensor([[0, 0, 0]]), torch.tensor([SHAPE[::-1]])


@pytest.fixture(params=[True, False], ids=["batched", "each"])
def batched(request):
    return request.param


def test_identity_leaves_the_volume_alone(batched):
    volume = head(1)
    image, mask = resample(volume, *WHOLE, matrix(), border=False, batched=batched)
    torch.testing.assert_close(image, volume, atol=1e-5, rtol=0)
    assert torch.equal(mask, volume > 0)


def test_flip_exchanges_left_and_right(batched):
    volume = head(1)
    image, _ = resample(volume, *WHOLE, matrix(flip=True), border=False, batched=batched)
    torch.testing.assert_close(image[0], Flip(spatial_axis=2)(volume[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("border", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_equals_monai(axis, border, batched):
    # MONAI's angles are about the array's axes (z, y, x); ours about (x, y, z) with x → y, y → z, z → x positive.
    volume, angle = head(1), 0.3
    if border:
        volume += 0.1  # brain up to the faces
    ours = [0.0, 0.0, 0.0]
    ours[2 - axis] = angle
    image, mask = resample(volume, *WHOLE, matrix(rotation=tuple(ours)), border=border, batched=batched)
    theirs = [0.0, 0.0, 0.0]
    theirs[axis] = angle
    padding = {"padding_mode": "border" if border else "zeros"}
    errors = []
    for sign in (1, -1):
        angles = tuple(sign * a for a in theirs)
        candidate = Rotate(angles, mode="bilinear", **padding)(volume[0])
        brain = Rotate(angles, mode="nearest", **padding)((volume[0] > 0).float()) > 0.5
        errors.append(float((image[0] - brain * candidate).abs().max()))
    assert min(errors) < 1e-3
    assert max(errors) > 0.1
    assert mask.all() == border


@pytest.mark.parametrize("size", [(16, 15, 14), (11, 12, 10)])  # the latter by 2: many voxels exactly between two
def test_crop_then_resize_equals_interpolating_the_crop(size, batched):
    volume = head(1) + 0.1
    start = (3, 4, 2)  # x, y, z
    x, y, z = (slice(s, s + n) for s, n in zip(start, size, strict=True))
    expected = torch.nn.functional.interpolate(volume[:, :, z, y, x], SHAPE, mode="trilinear")
    crop = torch.tensor([start]), torch.tensor([size])
    image, _ = resample(volume, *crop, matrix(start, size), border=True, batched=batched)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)
    volume = (head(1) > 0).float()
    _, mask = resample(volume, *crop, matrix(start, size), border=True, batched=batched)
    nearest = torch.nn.functional.interpolate(volume[:, :, z, y, x], SHAPE, mode="nearest-exact")
    assert torch.equal(mask, nearest > 0)


def test_without_border_nothing_outside_of_the_crop_is_seen(batched):
    volume = torch.ones(1, 1, *SHAPE)
    crop = torch.tensor([[3, 4, 2]]), torch.tensor([[16, 15, 14]])
    image, mask = resample(volume, *crop, matrix(), border=False, batched=batched)
    expected = torch.zeros(SHAPE)
    expected[2:16, 4:19, 3:19] = 1
    torch.testing.assert_close(image[0, 0], expected, atol=1e-5, rtol=0)
    assert torch.equal(mask[0, 0], expected > 0)


@pytest.mark.parametrize("border", [True, False])
@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (0.0, 0.0, 0.7), (0.2, -0.1, 0.3)])
def test_both_ways_show_the_same(rotation, border):
    volume, shape = torch.cat([head(2), torch.zeros(1, 1, *SHAPE)]), torch.tensor(SHAPE[::-1])
    start = torch.tensor([[3, 4, 2], [0, 0, 0], [1, 1, 1]])
    size = torch.tensor([[16, 15, 14], SHAPE[::-1], [10, 10, 10]])
    seen = (start, size) if border else ((shape - shape / 1.2).expand(3, 3) / 2, (shape / 1.2).expand(3, 3))
    boxes = zip(*(part.tolist() for part in seen), strict=True)
    affine = torch.cat([matrix(*box, flip, rotation) for box, flip in zip(boxes, (False, True, False), strict=True)])
    (one, brain), (two, also) = (
        resample(volume.half(), start, size, affine, border=border, batched=way) for way in (True, False)
    )
    assert torch.equal(brain, also)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    assert one[:2].any()
    assert not one[2].any()


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.7), (0.1, 0.0, 0.7)])
def test_brain_that_is_turned_out_of_the_view_leaves_it_empty(rotation, batched):
    volume = torch.zeros(1, 1, *SHAPE)
    volume[..., 10, :2, :2] = 1  # in the corner of a slice
    image, mask = resample(volume, *WHOLE, matrix(rotation=rotation), border=False, batched=batched)
    assert not image.any()
    assert not mask.any()


def test_voxels_halfway_between_two_are_decided_alike():
    # A crop of two thirds: every third voxel of the view lies exactly between two voxels of the volume.
    volume = torch.zeros(1, 1, 18, 18, 18)
    volume[..., ::2] = 1
    start, size = torch.tensor([[2, 3, 4]]), torch.tensor([[12, 12, 12]])
    affine = matrix((2, 3, 4), (12, 12, 12), shape=(18, 18, 18))
    masks = [resample(volume, start, size, affine, border=True, batched=way)[1] for way in (True, False)]
    assert torch.equal(*masks)
    # Voxel 3k + 1 of the view is at 2k + 0.5 of the crop: the upper of the two counts, as an even one of the volume
    # (crop voxel 2k + 1 is volume voxel 2k + 3, odd, so background).
    assert not masks[0][..., 1::3].any()


def test_brain_box_is_the_smallest():
    volume = torch.zeros(SHAPE)
    volume[3, 5, 7] = volume[6, 5, 9] = 1
    start, size = brain_box(volume)
    assert (start.tolist(), size.tolist()) == ([7, 5, 3], [3, 1, 4])
    assert brain_box(torch.zeros(SHAPE))[1].tolist() == [0, 0, 0]


def test_crop_without_brain_is_redrawn_then_centred(batched):
    volume = torch.zeros(3, 1, *SHAPE)
    volume[0, 0, :4, :4, :4] = 1  # brain in one corner alone
    volume[1, 0, 10, 12, 11] = 1
    corner, far = torch.tensor([0, 0, 0]), torch.tensor([15, 15, 12])
    starts = torch.stack([far, corner]).expand(3, 2, 3)
    sizes = torch.tensor([[5, 6, 7], [4, 4, 4]]).expand(3, 2, 3)
    start, size = choose_crop(volume, starts, sizes, batched=batched)
    assert start[0].tolist() == [0, 0, 0]
    assert size[0].tolist() == [4, 4, 4]
    for sample in (1, 2):  # neither candidate shows brain; the last volume has none at all
        assert size[sample].tolist() == [5, 6, 7]
        assert start[sample].tolist() == [(22 - 5) // 2, (24 - 6) // 2, (20 - 7) // 2]


def test_crop_counts_brain_voxels_exactly(batched):
    volume = (torch.rand(4, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    starts = torch.tensor([[[2, 3, 4]]]).expand(4, 1, 3)
    sizes = torch.tensor([[[9, 8, 7]]]).expand(4, 1, 3)
    share = volume[:, 0, 4:11, 3:11, 2:11].sum(dim=(1, 2, 3)) / volume.sum(dim=(1, 2, 3, 4))
    for sample in range(4):
        for factor, accepted in ((0.999, True), (1.001, False)):
            one = volume[[sample]], starts[[sample]], sizes[[sample]]
            start, _ = choose_crop(*one, min_brain=float(share[sample]) * factor, batched=batched)
            assert (start[0].tolist() == [2, 3, 4]) == accepted
