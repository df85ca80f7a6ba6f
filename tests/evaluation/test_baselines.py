import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from neuro_ssl.errors import InputError
from neuro_ssl.evaluation.baselines import STATISTICS, image_statistics, store_statistics
from tests.conftest import IXI


def test_of_a_volume_counted_by_hand():
    volume = np.zeros((3, 4, 5), np.float16)
    volume.ravel()[7:28] = np.random.default_rng(0).permutation(21) / 20 + 1  # 1.00, 1.05, … 2.00
    statistics = dict(zip(STATISTICS, image_statistics(volume, 2.0), strict=True))
    assert statistics["brain_ml"] == pytest.approx(21 * 8 / 1000)
    assert list(statistics)[1:3] == ["intensity_q05", "intensity_q15"] and list(statistics)[-1] == "intensity_q95"
    np.testing.assert_allclose(list(statistics.values())[1:], np.arange(1.05, 2, 0.1), atol=1e-3)  # float16


def test_real_brains_are_as_large_as_brains():
    for name in pd.read_csv(IXI / "participants.csv")["MRID"]:
        mask = nib.as_closest_canonical(nib.load(IXI / "masks" / f"{name}_mask.nii.gz"))
        image = nib.as_closest_canonical(nib.load(IXI / f"{name}_T1.nii.gz")).get_fdata()
        brain = np.asarray(mask.dataobj) > 0
        statistics = image_statistics((image + 1) * brain, 2.0)
        assert statistics[0] == pytest.approx(brain.sum() * np.prod(mask.header.get_zooms()) / 1000)
        assert 1000 < statistics[0] < 1900
        np.testing.assert_allclose(statistics[1:], np.percentile(image[brain], range(5, 100, 10)) + 1)


def test_of_a_store_in_the_order_of_its_manifest(random_scans):
    table = store_statistics(random_scans)
    assert list(table) == ["scan_id", *STATISTICS]
    assert table.index.equals(random_scans.manifest.index)
    for (_, row), scan in zip(table.iterrows(), random_scans.manifest.itertuples(), strict=True):
        volume = random_scans.read(scan.volume)
        assert row["scan_id"] == scan.scan_id
        assert row["brain_ml"] == pytest.approx((volume > 0).sum() * 1.6**3)  # voxels of 16 mm
        assert row["intensity_q45"] == pytest.approx(np.quantile(volume[volume > 0], 0.45), rel=1e-3)
    assert table["brain_ml"].nunique() > 5


def test_a_volume_without_a_brain_is_named(random_scans):
    class Damaged:
        manifest, grid = random_scans.manifest, random_scans.grid

        def read(self, volume):
            return random_scans.read(volume) * (volume != self.manifest["volume"][2])

    with pytest.raises(InputError, match=f"scan {random_scans.manifest['scan_id'][2]}: the volume is empty"):
        store_statistics(Damaged())
