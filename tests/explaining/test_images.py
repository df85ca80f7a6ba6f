"""Maps in MNI space and in a scan's own, against nibabel's affines and a scan with a mark that must come back."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuro_ssl.errors import InputError
from neuro_ssl.explaining.images import read_mni, to_scan_of, write_mni, write_native
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.pipeline import Preprocessing
from tests.conftest import IXI

SCAN = "IXI443-HH-2215"


def test_mni_space_is_the_grids(tmp_path):
    """A mark at (38, −22, −14) mm, the right hippocampus, as nibabel finds it from the file alone."""
    grid = Grid.named("4mm")
    volume = np.zeros(grid.shape, np.float32)
    x, y, z = (round((mm - origin) / 4) for mm, origin in zip((38, -22, -14), grid.origin_mm, strict=True))
    volume[z, y, x] = 2.5
    write_mni(volume, grid, tmp_path / "a.nii.gz", "a description " * 9)
    image = nib.load(tmp_path / "a.nii.gz")
    place = np.argwhere(image.get_fdata() == 2.5)
    np.testing.assert_allclose(apply_affine(image.affine, place)[0], (38, -22, -14), atol=2)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S") and image.get_data_dtype() == np.float32
    assert image.header["sform_code"] == image.header["qform_code"] == 4
    np.testing.assert_array_equal(read_mni(tmp_path / "a.nii.gz"), volume)
    (tmp_path / "b.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:200])
    with pytest.raises(InputError, match="b.nii.gz is damaged"):
        read_mni(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("axes", ["RAS", "PIL"])
def test_a_mark_in_a_scan_comes_back_at_its_place(tmp_path, axes):
    """A real head with a bright ball in one hemisphere, stored along other axes and tilted: there and back again."""
    files = IXI / f"{SCAN}_T1.nii.gz", IXI / "masks" / f"{SCAN}_mask.nii.gz"
    wanted = nib.orientations.axcodes2ornt(axes)
    head, mask = (
        image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
        for image in map(nib.load, files)
    )
    brain, voxels = np.asarray(mask.dataobj) > 0, head.get_fdata()
    tilt = np.eye(4)
    tilt[:3, :3] = [[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]]
    affine = tilt @ head.affine
    centre = apply_affine(head.affine, ndimage.center_of_mass(brain))
    mark = apply_affine(np.linalg.inv(head.affine), centre + np.array([35, 20, 10]))  # to the right, in front, above
    distance = np.linalg.norm(np.stack(np.indices(voxels.shape), -1) - mark, axis=-1)
    voxels[distance < 5] = 3 * voxels[brain].max()
    for name, content in (("head", voxels), ("mask", brain.astype(np.uint8))):
        image = nib.Nifti1Image(content, affine)
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        nib.save(image, tmp_path / f"{name}.nii.gz")

    grid = Grid.named("4mm")
    preprocess = Preprocessing(grid, "mask", registration="centre", bias_correction=False)
    made = preprocess(str(tmp_path / "head.nii.gz"), str(tmp_path / "mask.nii.gz"))
    out = tmp_path / "native.nii.gz"
    write_native(made.volume, grid, made.to_scan, tmp_path / "head.nii.gz", out, "volume")

    image = nib.load(out)
    found = image.get_fdata()
    assert image.shape == voxels.shape
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    bright = found > 0.7 * found.max()
    assert np.linalg.norm(np.array(ndimage.center_of_mass(bright)) - mark) < 1  # voxel of 2 mm
    assert np.corrcoef(found[brain], ndimage.gaussian_filter(voxels * brain, 0.8)[brain])[0, 1] > 0.95


@pytest.mark.parametrize(("axes", "form"), [("LAS", "qform"), ("PSR", "sform"), ("ILP", "both")])
def test_oblique_scans_that_are_turned_scaled_and_have_one_orientation(tmp_path, axes, form):
    """A mark at (40, 30, 25) mm of MNI space is where the matrix to the scan puts it, by the written file alone."""
    grid = Grid.named("4mm")
    z, y, x = (axis * 4.0 + o for axis, o in zip(np.indices(grid.shape), reversed(grid.origin_mm), strict=True))
    volume = np.exp(-((x - 40) ** 2 + (y - 30) ** 2 + (z - 25) ** 2) / 72)
    to_scan, oblique = np.eye(4), np.eye(4)
    to_scan[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.2, 0.25]).as_matrix() @ np.diag([1.1, 0.95, 1.05])
    to_scan[:3, 3] = 12, -30, 44
    place = (to_scan @ [40, 30, 25, 1])[:3]
    oblique[:3, :3] = Rotation.from_euler("xyz", [-0.2, 0.1, 0.3]).as_matrix() @ np.diag([3.0, 3.0, 4.0])
    oblique[:3, 3] = place - oblique[:3, :3] @ [18, 22, 14]
    scan = nib.Nifti1Image(np.zeros((40, 42, 30), np.int16), oblique)
    wanted = nib.orientations.axcodes2ornt(axes)
    scan = scan.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(oblique), wanted))
    stored = nib.Nifti1Image(np.asarray(scan.dataobj)[..., None], scan.affine)  # with an axis of time, of length 1
    stored.set_sform(scan.affine if form != "qform" else None, code=int(form != "qform"))
    stored.set_qform(scan.affine if form != "sform" else None, code=int(form != "sform"))
    nib.save(stored, tmp_path / "scan.nii.gz")
    write_native(volume, grid, to_scan, tmp_path / "scan.nii.gz", tmp_path / "out.nii.gz", "mark")

    image = nib.load(tmp_path / "out.nii.gz")
    assert nib.aff2axcodes(image.affine) == tuple(axes) and image.shape == scan.shape
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    assert (image.header["sform_code"], image.header["qform_code"]) == (form != "qform", form != "sform")
    found = apply_affine(image.affine, ndimage.center_of_mass(image.get_fdata()))
    np.testing.assert_allclose(found, place, atol=0.1)


def test_registered_images_are_in_their_own_space():
    np.testing.assert_array_equal(to_scan_of(object(), "a.nii.gz"), np.eye(4))


@pytest.mark.parametrize(
    "damage", [lambda _: b"no image", lambda whole: whole[:12], lambda whole: whole[:30] + b"x" * 99]
)
def test_a_scan_that_is_no_image(tmp_path, damage):
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5)), np.eye(4)), tmp_path / "scan.nii.gz")
    (tmp_path / "scan.nii.gz").write_bytes(damage((tmp_path / "scan.nii.gz").read_bytes()))
    grid = Grid.named("16mm")
    with pytest.raises(InputError, match="scan.nii.gz cannot be read .* or set native=false"):
        write_native(np.zeros(grid.shape), grid, np.eye(4), tmp_path / "scan.nii.gz", tmp_path / "o.nii.gz", "")
