"""A store in which age and sex can be seen, with enough subjects for probes."""

import numpy as np
import pandas as pd

from neuro_ssl.data.manifest import add_scan_ids, validate
from neuro_ssl.data.store_writer import StoreWriter
from neuro_ssl.grid import Grid

N = {"train": 20, "val": 13, "test": 3}  # scans; of the first two splits, the last scan is of the first subject


def write_labelled_brains(folder):
    """Noisy balls on the 16 mm grid: the older, the smaller; brighter on the left in men."""
    grid, random = Grid.named("16mm"), np.random.default_rng(0)
    rows = []
    for split, n in N.items():
        for i in range(n):
            image = folder / f"{split}{i}.nii"
            image.write_text(image.name)
            subject = 0 if split != "test" and i == n - 1 else i
            age = np.random.default_rng([n, subject]).uniform(20, 90)
            rows.append((f"c/{split}{subject}", str(i), str(image), split, age, "FM"[subject % 2]))
    columns = ["subject_id", "session_id", "image_path", "split", "age_years", "sex"]
    scans = add_scan_ids(validate(pd.DataFrame(rows, columns=columns), "c.csv"))
    writer = StoreWriter(folder / "stores" / "c", grid, {"version": 1})
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in grid.shape), indexing="ij")
    for row in scans.itertuples():
        ball = sum(x**2 for x in axes) < (1.1 - row.age_years / 200) ** 2
        volume = ball * (random.uniform(0.5, 1.5, grid.shape) + (row.sex == "M") * (axes[2] < 0))
        writer.write(row.scan_id, volume.astype(np.float16), {"brain_ml": 1200.0}, np.eye(4), [row.image_path])
    return writer.finish(scans, "c", simulated=True)
