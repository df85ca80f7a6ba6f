import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.conftest import IXI, run_command

SPLITS = ["train"] * 6 + ["val"] * 4 + ["test"] * 4


def labels():
    """A table of fourteen scans; its last columns are a cohort's own, and every label has gaps."""
    n = len(SPLITS)
    random = np.random.default_rng(0)
    table = pd.DataFrame({"subject_id": [f"s{i:02d}" for i in range(n)], "split": SPLITS})
    table["age_years"] = np.round(random.uniform(20, 90, n), 1)
    table["sex"] = ["FM"[i % 2] for i in range(n)]
    table["MMSE score"] = random.integers(15, 31, n).astype(float)
    table["handedness"] = [("right", "left", "both")[i % 3] for i in range(n)]
    table.loc[[1, 2, 8, 11], "age_years"] = None
    table.loc[[0, 2, 5, 12], "sex"] = None  # scan 2 has neither, and of scan 0 there is an age alone
    table.loc[[3, 9, 10], "MMSE score"] = None
    table.loc[[4, 13], "handedness"] = None
    return table


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Arguments of `train` for a store of fourteen small heads: four real ones, sampled coarsely, at several gains."""
    folder = tmp_path_factory.mktemp("labelled")
    heads = folder / "heads"
    heads.mkdir()
    table = labels()
    originals = sorted(IXI.glob("*.nii.gz"))
    for i, subject in enumerate(table["subject_id"]):
        file = originals[i % len(originals)]
        mask = IXI / "masks" / f"{file.name.removesuffix('_T1.nii.gz')}_mask.nii.gz"
        for name, source, gain in (("T1", file, 1 + 0.1 * i), ("mask", mask, 1)):
            image = nib.as_closest_canonical(nib.load(source)).slicer[i // 4 :: 4, ::4, ::4]
            kind = np.float32 if name == "T1" else np.uint8
            nib.save(
                nib.Nifti1Image((image.get_fdata() * gain).astype(kind), image.affine), heads / f"{subject}_{name}.nii"
            )
        table.loc[i, ["image_path", "mask_path"]] = [f"{subject}_T1.nii", f"{subject}_mask.nii"]
    table.to_csv(heads / "scans.csv", index=False)
    place = ["dataset=csv", "dataset.cohort=own", "grid=16mm", f"data_dir='{folder}'"]
    run_command(
        "preprocess",
        *(*place, f"dataset.root='{heads}'", "dataset.table=scans.csv", "dataset.columns={mmse: 'MMSE score'}"),
        *("n_jobs=1", "bias_correction=false", "registration=centre", "on_error=stop"),
    )
    return [
        *place,
        *("strategy=cpu", "logger=csv", "num_workers=0", "batch_size=4", "encoder.width=8", "trainer.max_epochs=2"),
    ]
