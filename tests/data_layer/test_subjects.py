"""TorchIO's subjects hold what the files hold, in the axes that TorchIO expects; on real heads."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torchio
from scipy import ndimage

from neuro_ssl.data.manifest import validate
from neuro_ssl.data.store import VolumeStore, open_volume
from neuro_ssl.data.subjects import subject, volume_subject
from neuro_ssl.errors import InputError
from tests.conftest import IXI


@pytest.fixture(scope="module")
def manifest():
    table = pd.read_csv(IXI / "participants.csv")
    rows = {
        "subject_id": table["MRID"],
        "image_path": [str(IXI / f"{name}_T1.nii.gz") for name in table["MRID"]],
        "mask_path": [str(IXI / "masks" / f"{name}_mask.nii.gz") for name in table["MRID"]],
        "age_years": [50.5, None, 60, 70],
        "sex": table["Sex"],
    }
    return validate(pd.DataFrame({**rows, "cohort": "ixi"}), "table")


def test_a_subject_has_the_rows_images_and_facts(manifest):
    first, second = (subject(row) for _, row in manifest.iloc[:2].iterrows())
    assert (first["subject_id"], first["age_years"], first["sex"]) == ("ixi/IXI206-HH-1650", 50.5, "F")
    assert "age_years" not in second
    assert not first["t1"]._loaded and not first["brain"]._loaded  # a cohort's subjects cost nothing
    stored = nib.load(manifest["image_path"][0])
    np.testing.assert_allclose(first["t1"].data[0], stored.get_fdata(), atol=1e-3)
    np.testing.assert_allclose(first["t1"].affine, stored.affine, atol=1e-4)
    canonical = torchio.ToCanonical()(first)  # these masks' axes are stored in another order than the heads'
    assert canonical.spatial_shape == canonical["t1"].spatial_shape
    inside = np.asarray(nib.as_closest_canonical(nib.load(manifest["mask_path"][0])).dataobj) > 0
    np.testing.assert_array_equal(canonical["brain"].data[0] > 0, inside)


def test_without_a_mask_there_is_none(manifest):
    assert "brain" not in subject(manifest.drop(columns="mask_path").iloc[0])
    assert "brain" not in subject({**manifest.iloc[0].to_dict(), "mask_path": None})


@pytest.mark.filterwarnings("ignore:Error loading image with SimpleITK")
def test_what_is_wrong_is_named(manifest, tmp_path):
    row = manifest.iloc[0].to_dict()
    with pytest.raises(InputError, match="a row needs image_path, this one has sex"):
        subject({"sex": "F"})
    for name in ("image_path", "mask_path"):
        with pytest.raises(InputError, match="nowhere.nii.gz: no such image"):
            subject({**row, name: str(tmp_path / "nowhere.nii.gz")})
    small = tmp_path / "small.nii"
    nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4)).to_filename(small)
    with pytest.raises(InputError, match=r"small.nii: the mask's grid \(shape \(9, 9, 9\).*resample the mask"):
        subject({**row, "mask_path": str(small)})
    (tmp_path / "text.nii").write_text("text")
    with pytest.raises(InputError, match="text.nii: cannot be read"):
        subject({**row, "image_path": str(tmp_path / "text.nii")})


def test_a_volumes_subject_lies_as_the_head_does_and_not_mirrored(real_brains):
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    for _, row in store.manifest.iterrows():
        scan = volume_subject(store, row)
        assert scan["split"] == row["split"] and not scan["t1"]._loaded
        volume = store.read(row["volume"])
        assert scan.spatial_shape == volume.shape[::-1] and scan["t1"].orientation == ("R", "A", "S")
        np.testing.assert_array_equal(scan["brain"].data[0], volume.T > 0)
        # The head, looked up at the subject's own world coordinates; mirrored, it fits less well.
        head = nib.load(row["image_path"])
        array = open_volume(store.path / row["volume"])
        to_scan = np.array(array.schunk.vlmeta["neuro_ssl"]["to_scan"])
        world = nib.affines.apply_affine(scan["t1"].affine, np.argwhere(scan["brain"].data[0].numpy()))
        values = scan["t1"].data[0].numpy()[scan["brain"].data[0].numpy() > 0]
        smooth = ndimage.gaussian_filter(head.get_fdata(), 1.5)
        fits = []
        for mirror in (1, -1):
            voxels = nib.affines.apply_affine(np.linalg.inv(head.affine) @ to_scan, world * [mirror, 1, 1])
            fits.append(np.corrcoef(ndimage.map_coordinates(smooth, voxels.T, order=1), values)[0, 1])
        assert fits[0] > 0.95 and fits[0] > fits[1] + 0.03, fits


def test_subjects_of_volumes_go_through_torchios_loader(real_brains):
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    subjects = [volume_subject(store, row) for _, row in store.manifest.iterrows()]
    loader = torchio.SubjectsLoader(torchio.SubjectsDataset(subjects, torchio.Flip("LR")), batch_size=4, num_workers=1)
    (batch,) = loader
    expected = np.stack([store.read(volume).T[::-1] for volume in store.manifest["volume"]])
    np.testing.assert_array_equal(batch["t1"]["data"][:, 0], expected)


def test_a_volume_that_is_not_there_is_named(real_brains):
    store = VolumeStore.find(real_brains / "stores" / "ixi", "8mm")
    with pytest.raises(InputError, match="column volume"):
        volume_subject(store, {"sex": "F"})
    with pytest.raises(InputError, match="volumes/nobody.b2nd: no such image"):
        volume_subject(store, {"volume": "volumes/nobody.b2nd"})
