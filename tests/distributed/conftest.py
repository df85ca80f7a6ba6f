import numpy as np
import pandas as pd
import pytest

from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.grid import Grid


@pytest.fixture(scope="session")
def random_scans(tmp_path_factory):
    """A store of cohort `c` in `stores/c` of its data_dir: noise with 7 training, 3 validation and 3 test scans."""
    folder = tmp_path_factory.mktemp("store")
    grid = Grid.named("16mm")
    random = np.random.default_rng(0)
    splits = ["train"] * 7 + ["val"] * 3 + ["test"] * 3
    subjects = [0, 1, 2, 0, 3, 4, 1, 5, 6, 6, 7, 8, 8]  # some with several scans
    images = [folder / f"{i}.nii" for i in range(len(splits))]
    for image in images:
        image.write_text(image.name)
    table = {
        "subject_id": [f"c/{i}" for i in subjects],
        "session_id": [str(i) for i in range(len(splits))],
        "image_path": map(str, images),
        "split": splits,
        "age_years": [20.0 + 5 * i for i in subjects],
        "sex": ["FM"[i % 2] for i in subjects],
    }
    scans = add_scan_ids(validate(pd.DataFrame(table), "c.csv"))
    writer = StoreWriter(folder / "stores" / "c", grid, {"version": 1})
    for row in scans.itertuples():
        volume = random.uniform(0.5, 1.5, grid.shape) * (random.random(grid.shape) > 0.3)
        writer.write(row.scan_id, volume.astype(np.float16), {"brain_ml": 1200.0}, np.eye(4), [row.image_path])
    return writer.finish(scans, "c", simulated=True)
