import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.nifti import read_nifti

SCAN = Path(__file__).parents[1] / "data/ixi_2mm/IXI206-HH-1650_T1.nii.gz"
ORIENTATIONS = [
    "".join(axes) for group in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*group)
]


def save(array, path, affine=None):
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1]) if affine is None else affine), path)
    return path


def test_stored_psr_left_stays_left():
    stored = nib.load(SCAN)
    assert nib.aff2axcodes(stored.affine) == ("P", "S", "R")
    voxels, affine = read_nifti(SCAN)
    oracle = nib.as_closest_canonical(stored)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    np.testing.assert_array_equal(voxels, oracle.get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(affine, oracle.affine)
    # And by hand, without reorientation: the same value at the same place in the world.
    point = affine @ [60, 50, 70, 1]
    i, j, k, _ = np.rint(np.linalg.inv(stored.affine) @ point).astype(int)
    assert voxels[60, 50, 70] == np.float32(stored.get_fdata()[i, j, k])


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_reads_the_same(tmp_path, codes):
    array = np.random.default_rng(0).random((5, 6, 7), np.float32)
    affine = nib.affines.from_matvec([[2, 0.1, 0], [0, 1.5, 0.2], [0.1, 0, 1]], [3, 4, 5])
    image = nib.Nifti1Image(array, affine)
    to = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    nib.save(image.as_reoriented(to), tmp_path / "t.nii")
    voxels, read_affine = read_nifti(tmp_path / "t.nii")
    np.testing.assert_array_equal(voxels, array)
    np.testing.assert_allclose(read_affine, affine, atol=1e-5)


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path):
    array = np.random.default_rng(0).random((4, 5, 6, 1), np.float32)
    np.testing.assert_array_equal(read_nifti(save(array, tmp_path / "t.nii.gz"))[0], array[..., 0])


def broken(path: Path, kind: str) -> Path:
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    match kind:
        case "empty":
            path.touch()
        case "truncated gzip":
            whole = SCAN.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
        case "truncated":
            path.write_bytes(gzip.compress(gzip.decompress(SCAN.read_bytes())[:5000]))
        case "text":
            path.write_bytes(gzip.compress(b"not an image" * 100))
        case "4D":
            save(np.stack([array, array], -1), path)
        case "2D":
            save(array[..., :1], path)
        case "nan":
            array[1, 2, 3] = np.nan
            save(array, path)
        case "constant":
            save(np.full_like(array, 7), path)
        case "singular":
            header = bytearray(nib.Nifti1Image(array, np.eye(4)).to_bytes())
            header[312:328] = bytes(16)  # srow_z
            path.write_bytes(gzip.compress(header))
        case "unoriented":
            image = nib.Nifti1Image(array, np.eye(4))
            image.header["sform_code"] = image.header["qform_code"] = 0
            image.set_sform(None, 0)
            nib.save(image, path)
        case "analyze":
            path = path.with_name("t.img")
            nib.save(nib.Spm99AnalyzeImage(array, np.eye(4)), path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("empty", "cannot be read"),
        ("truncated gzip", "cannot be read"),
        ("truncated", "cannot be read"),
        ("text", "cannot be read"),
        ("analyze", "not a NIfTI image but Spm"),
        ("4D", r"3D image is needed, this one has shape \(4, 5, 6, 2\)"),
        ("2D", "3D image is needed"),
        ("nan", "1 voxels are NaN"),
        ("constant", "every voxel is 7"),
        ("singular", "singular"),
        ("unoriented", "states no orientation"),
    ],
)
def test_refuses_and_names_the_file(tmp_path, kind, message):
    path = broken(tmp_path / "t.nii.gz", kind)
    with pytest.raises(InputError, match=message) as error:
        read_nifti(path)
    assert str(path) in str(error.value)
