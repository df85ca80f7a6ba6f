import numpy as np
import pytest

from neuro_ssl.data.store import VolumeStore
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid


def test_the_papers_grid_is_its_crop_of_the_09c_grid():
    """[10:160, 19:211, 1:] of a (z, y, x) array whose first voxel lies at (-96, -132, -78) mm."""
    grid = Grid.named("paper_1mm")
    assert grid.shape == (160 - 10, 211 - 19, 193 - 1)
    assert grid.origin_mm == (-96 + 1, -132 + 19, -78 + 10)
    np.testing.assert_array_equal(grid.affine @ [1, 2, 3, 1], [-94, -111, -65, 1])


def test_a_grid_of_ones_own_has_the_papers_centre(command, real_brains, tmp_path):
    assert Grid.named("150x192x192@1mm").origin_mm == Grid.named("paper_1mm").origin_mm
    own, paper = Grid.named("16x20x18@10mm"), Grid.named("paper_1mm")
    centres = [g.affine @ [*(np.array(g.shape[::-1]) - 1) / 2, 1] for g in (own, paper)]
    np.testing.assert_allclose(*centres)
    command(
        "preprocess", "dataset=csv", "dataset.cohort=ixi", "dataset.root=.", "grid=16x20x18@10mm", "n_jobs=1",
        f"dataset.table='{next(real_brains.glob('stores/ixi/8mm-*'))}/manifest.parquet'",
        f"data_dir='{tmp_path}'", "registration=centre", "bias_correction=false",
    )  # fmt: skip
    store = VolumeStore.find(tmp_path / "stores/ixi", "16x20x18@10mm")
    assert store.read(store.manifest["volume"][0]).shape == store.grid.shape == (16, 20, 18)


@pytest.mark.parametrize("name", ["big", "0.1mm", "40mm", "2x9x9@4mm", "9x9@4mm", "9x9x9", "999x9x9@1mm", "", "1"])
def test_other_grids_are_refused(name):
    with pytest.raises(InputError, match=f"grid must be .* got '{name}'"):
        Grid.named(name)
