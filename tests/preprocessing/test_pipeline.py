import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.pipeline import Preprocessing, choose_brain_extraction
from neuro_ssl.preprocessing.white_matter import white_matter_level

IXI = Path(__file__).parents[1] / "data/ixi_2mm"
SCAN, MASK = IXI / "IXI383-HH-2099_T1.nii.gz", IXI / "masks/IXI383-HH-2099_mask.nii.gz"
GRID = Grid.named("4mm")


def quick(brain_extraction):
    """Without the two steps that take seconds."""
    return Preprocessing(GRID, brain_extraction, registration="centre", bias_correction=False)


@pytest.fixture(scope="module")
def crude_mask(tmp_path_factory):
    """An ellipsoid in the head's middle, stored like the scan."""
    image = nib.load(SCAN)
    head = ndimage.binary_opening(image.get_fdata() > 150, iterations=2)
    centre = nib.affines.apply_affine(image.affine, ndimage.center_of_mass(head))
    centre[2] += 20
    world = nib.affines.apply_affine(image.affine, np.moveaxis(np.indices(image.shape), 0, -1))
    mask = (((world - centre) / (55, 70, 50)) ** 2).sum(-1) < 1
    path = tmp_path_factory.mktemp("mask") / "mask.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), path)
    return path


def stored_as(image, codes, path):
    """The same image with its array flipped and permuted, and its header with it."""
    to = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    nib.save(image.as_reoriented(to), path)
    return str(path)


def test_left_stays_left(crude_mask, tmp_path):
    """Brighten the left half, found by nibabel's reorientation: it must come out where the last axis is low."""
    image = nib.as_closest_canonical(nib.load(SCAN))
    voxels = image.get_fdata(dtype=np.float32)
    voxels[: voxels.shape[0] // 2] *= 3  # RAS: the first axis starts at the left
    path = stored_as(nib.Nifti1Image(voxels, image.affine), "PSR", tmp_path / "left.nii")
    assert nib.aff2axcodes(nib.load(path).affine) == nib.aff2axcodes(nib.load(SCAN).affine) == ("P", "S", "R")
    volume = quick("mask")(path, str(crude_mask)).volume.astype(np.float32)
    middle = GRID.shape[2] // 2
    assert volume[:, :, : middle - 3].mean() > 2 * volume[:, :, middle + 3 :].mean() > 0


ORIENTATIONS = [
    pytest.param("".join(axes), marks=() if "".join(axes) == "LPI" else pytest.mark.slow)
    for group in itertools.permutations(("RL", "AP", "SI"))
    for axes in itertools.product(*group)
]


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """The scan and its mask with every second voxel, stored as they are: (P, S, R) and (R, A, S)."""
    folder = tmp_path_factory.mktemp("coarse")
    for file in (SCAN, MASK):
        image = nib.load(file)
        every_second = nib.as_closest_canonical(image).slicer[::2, ::2, ::2]
        stored_as(every_second, nib.aff2axcodes(image.affine), folder / file.name)
    return str(folder / SCAN.name), str(folder / MASK.name)


@pytest.fixture(scope="module")
def whole_chain(coarse):
    """The full chain's volume of a scan as it is stored."""
    return Preprocessing(GRID, "mask")(*coarse).volume


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_header_and_array_flipped_together_give_the_identical_volume(coarse, whole_chain, tmp_path, codes):
    scan, mask = coarse
    image = stored_as(nib.load(scan), codes, tmp_path / "image.nii.gz")
    volume = Preprocessing(GRID, "mask")(image, mask).volume  # the mask is still stored the other way
    np.testing.assert_array_equal(volume, whole_chain)
    assert (volume > 0).sum() > 5000


def test_the_crop_is_the_papers(tmp_path):
    """An image on the 09c grid, already registered and stripped: transposed and cropped by hand."""
    shape, affine = (193, 229, 193), nib.affines.from_matvec(np.eye(3), (-96, -132, -78))
    voxels = np.random.default_rng(0).random(shape, np.float32)
    x, y, z = np.ogrid[-96:97, -132:97, -78:115]
    r = np.sqrt(x**2 + (y + 20) ** 2 + (z - 8) ** 2)  # a ball of white matter in one of grey
    image = np.where(r < 70, np.where(r < 55, 100, 60) + voxels, 0)
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), tmp_path / "registered.nii.gz")
    preprocess = Preprocessing(Grid.named("paper_1mm"), "none", registration="none", bias_correction=False)
    volume = preprocess(str(tmp_path / "registered.nii.gz")).volume.astype(np.float64)
    expected = image.transpose(2, 1, 0)[10:160, 19:211, 1:]
    np.testing.assert_array_equal(volume > 0, expected > 0)
    inside = expected > 0
    ratio = volume[inside] / expected[inside]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)  # float16


def test_an_image_that_is_already_stripped(crude_mask, tmp_path):
    image = nib.load(SCAN)
    voxels = image.get_fdata(dtype=np.float32) + 1  # so that no brain voxel is 0
    paths = [str(tmp_path / name) for name in ("whole.nii", "stripped.nii")]
    nib.save(nib.Nifti1Image(voxels, image.affine), paths[0])
    nib.save(nib.Nifti1Image(voxels * (nib.load(crude_mask).get_fdata() > 0), image.affine), paths[1])
    expected = quick("mask")(paths[0], str(crude_mask)).volume
    volume = quick("none")(paths[1]).volume
    np.testing.assert_allclose(volume.astype(float), expected.astype(float), rtol=0.01)


def test_every_brain_voxel_is_positive_even_where_the_image_is_not(crude_mask, tmp_path):
    image = nib.load(SCAN)
    voxels = image.get_fdata()
    voxels[voxels < 100] = -5
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "negative.nii.gz")
    preprocess = quick("mask")
    volume = preprocess(str(tmp_path / "negative.nii.gz"), str(crude_mask)).volume
    assert (volume > 0).sum() == (preprocess(str(SCAN), str(crude_mask)).volume > 0).sum()
    assert volume.min() == 0 and 0 < volume[volume > 0].min() < 1e-3


def mask_image(change):
    def make(path, crude_mask):
        mask = nib.load(crude_mask)
        array, affine = change(np.asarray(mask.dataobj).copy(), mask.affine.copy())
        nib.save(nib.Nifti1Image(array, affine), path)
        return str(path)

    return make


def moved(array, affine):
    affine[0, 3] += 30
    return array, affine


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mask_image(lambda array, affine: (array * 0, affine)), "every voxel is 0"),
        (mask_image(lambda array, affine: (array[:-1], affine)), "mask's grid .*differs"),
        (mask_image(moved), "mask's grid .*differs"),
        (
            mask_image(
                lambda array, affine: (np.pad(array[:1] * 0 + 1, ((0, len(array) - 1), (0, 0), (0, 0))), affine)
            ),
            "brain mask has",
        ),
        (lambda path, crude_mask: None, "no mask_path; brain_extraction=deepbet"),
    ],
)
def test_refuses_masks(crude_mask, tmp_path, make, message):
    with pytest.raises(InputError, match=message) as error:
        quick("mask")(str(SCAN), make(tmp_path / "m.nii.gz", crude_mask))
    assert str(SCAN) in str(error.value)


def test_a_whole_head_is_not_taken_for_a_stripped_one():
    with pytest.raises(InputError, match="IXI383.*brain mask has .* ml, and a brain 300 to 2500.*brain_extraction"):
        quick("none")(str(SCAN))


@pytest.mark.parametrize("levels", [20, 10_000])
def test_white_matter_level_of_a_brain_that_is_known(levels):
    """A ball of grey matter around white matter and a ventricle, with noise, stored in few or many steps."""
    rng = np.random.default_rng(0)
    radius = np.sqrt((np.moveaxis(np.indices((60, 60, 60)), 0, -1) - 29.5) ** 2 @ np.ones(3))
    tissue = np.select([radius < 8, radius < 18, radius < 26], [20.0, 100.0, 65.0], 0.0)
    image = np.clip(tissue + rng.normal(0, 4, tissue.shape), 0, None)
    image[radius > 27] = 400  # fat
    stored = (np.rint(image / 400 * levels * 3) * (400 / levels / 3)).astype(np.float32)
    assert white_matter_level(stored, radius < 26) == pytest.approx(100, abs=4)


def test_white_matter_must_be_bright():
    radius = np.sqrt((np.moveaxis(np.indices((40, 40, 40)), 0, -1) - 19.5) ** 2 @ np.ones(3))
    image = (1 + radius + np.random.default_rng(0).random((40, 40, 40)) * 0.1).astype(np.float32)
    with pytest.raises(InputError, match="white-matter peak"):
        white_matter_level(-image, radius < 18)


def test_brain_extraction_is_one_for_a_cohort():
    some, every, none = {"a": "m", "b": None}, {"a": "m", "b": "n"}, {"a": None, "b": None}
    assert [choose_brain_extraction("auto", masks) for masks in (every, none)] == ["mask", "deepbet"]
    assert choose_brain_extraction("deepbet", some) == "deepbet"
    assert choose_brain_extraction("none", some) == "none"
    for requested, masks in (("auto", some), ("mask", some), ("mask", none)):
        with pytest.raises(InputError, match="have no mask, first [ab]"):
            choose_brain_extraction(requested, masks)
    with pytest.raises(InputError, match="must be auto, mask, deepbet, synthstrip or none, got 'bet'"):
        choose_brain_extraction("bet", every)
