"""Images and masks that cannot be used stop preprocessing by name; the store from before stays as it was."""

import gzip

import nibabel as nib
import numpy as np
import pytest

IMAGE, MASK = r"scan 3\.nii\.gz", r"mask 3\.nii\.gz"


def rewrite(file, change):
    """Write an image again with its voxels changed."""
    image = nib.load(file)
    nib.save(nib.Nifti1Image(change(image.get_fdata(dtype=np.float32)), image.affine), file)


def with_voxel(value):
    def change(voxels):
        voxels[3, 4, 5] = value
        return voxels

    return change


def set_affine(file, change):
    image = nib.load(file)
    image.set_sform(change(image.affine.copy()), code=1)
    image.set_qform(None, code=0)
    nib.save(image, file)


def singular(affine):
    affine[:3, 0] = 0
    return affine


def shifted(affine):
    affine[0, 3] += 20
    return affine


def no_orientation(file):
    image = nib.load(file)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, file)


def another_format(heads):
    image = nib.load(heads.image)
    nib.save(nib.MGHImage(image.get_fdata(dtype=np.float32), image.affine), heads.root / "scan 3.mgz")
    heads.table.write_text(heads.table.read_text().replace("scan 3.nii.gz", "scan 3.mgz"))


def cut(file, n):
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[:n]))


def folder_instead(file):
    file.unlink()
    file.mkdir()


FETCH = "fetch it again"
LEAVE_OUT = "leave the scan out"
CASES = {
    "missing": (lambda h: h.image.unlink(), IMAGE, "take their rows out"),
    "a folder": (lambda h: folder_instead(h.image), IMAGE, "take their rows out"),
    "truncated gzip": (lambda h: h.image.write_bytes(h.image.read_bytes()[:5000]), IMAGE, FETCH),
    "truncated payload": (lambda h: cut(h.image, -1000), IMAGE, FETCH),
    "truncated header": (lambda h: cut(h.image, 200), IMAGE, FETCH),
    "damaged in the middle": (lambda h: h.image.write_bytes(h.image.read_bytes()[:9000] + bytes(9000)), IMAGE, FETCH),
    "empty": (lambda h: h.image.write_bytes(b""), IMAGE, FETCH),
    "text": (lambda h: h.image.write_text("<html>404 not found</html>"), IMAGE, FETCH),
    "gzipped text": (lambda h: h.image.write_bytes(gzip.compress(b"not an image" * 99)), IMAGE, FETCH),
    "another format": (another_format, r"scan 3\.mgz", r"convert it to \.nii\.gz"),
    "NaN": (lambda h: rewrite(h.image, with_voxel(np.nan)), f"{IMAGE}: 1 voxels are NaN", LEAVE_OUT),
    "Inf": (lambda h: rewrite(h.image, with_voxel(-np.inf)), f"{IMAGE}: 1 voxels are NaN or inf", LEAVE_OUT),
    "constant": (lambda h: rewrite(h.image, lambda v: np.full_like(v, 7)), f"{IMAGE}: every voxel is 7", LEAVE_OUT),
    "zeros": (lambda h: rewrite(h.image, np.zeros_like), f"{IMAGE}: every voxel is 0", LEAVE_OUT),
    "2D": (lambda h: rewrite(h.image, lambda v: v[:, :, 9]), f"{IMAGE}: a 3D image is needed", r"extract one volume"),
    "4D": (lambda h: rewrite(h.image, lambda v: np.stack([v, v], 3)), f"{IMAGE}: .*, 2\\)", "extract one volume"),
    "singular affine": (lambda h: set_affine(h.image, singular), f"{IMAGE}: .*singular", r"set_sform"),
    "no orientation": (lambda h: no_orientation(h.image), f"{IMAGE}: .*no orientation", "set_sform"),
    "noise": (
        lambda h: rewrite(h.image, lambda v: np.random.default_rng(0).exponential(1, v.shape).astype(np.float32)),
        IMAGE,
        "is it a T1w image, and is its mask the brain",
    ),
    "mask missing": (lambda h: h.mask.unlink(), MASK, "take their rows out"),
    "mask truncated": (lambda h: h.mask.write_bytes(h.mask.read_bytes()[:500]), MASK, FETCH),
    "mask empty": (lambda h: rewrite(h.mask, np.zeros_like), f"{MASK}: every voxel is 0", LEAVE_OUT),
    "mask of another shape": (lambda h: rewrite(h.mask, lambda v: v[1:]), f"{IMAGE}: .*{MASK}", "resample the mask"),
    "mask elsewhere": (lambda h: set_affine(h.mask, shifted), f"{IMAGE}: .*{MASK}", "resample the mask"),
    "mask of a few voxels": (
        lambda h: rewrite(h.mask, lambda v: with_voxel(1)(0 * v)), f"{IMAGE}: .* 0 ml", "check the mask"
    ),
    "mask of everything": (
        lambda h: rewrite(h.mask, lambda v: with_voxel(0)(0 * v + 1)), f"{IMAGE}: .* ml", "check the"
    ),
    "no mask for one": (
        lambda h: h.table.write_text(h.table.read_text().replace("mask 3.nii.gz", "")),
        f"1 of 4 images have no mask, first .*{IMAGE}",
        "brain_extraction=deepbet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_by_name(heads, refuses, case):
    damage, names, remedy = CASES[case]
    damage(heads)
    added = refuses("preprocess", *heads.arguments, says=[names, remedy])
    assert not added  # the other three volumes were there
