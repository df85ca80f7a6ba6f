"""What is on the tutorial's page, run as it is written, on four real heads and the mirror image of one."""

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pytest

from tests.conftest import IXI

PAGE = Path(__file__).parents[1] / "experiments" / "tutorial" / "README.md"


@pytest.mark.parametrize("with_masks", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_tutorial(pretrained, tmp_path, monkeypatch, with_masks):
    scans, runs = tmp_path / "scans", tmp_path / "runs"
    scans.mkdir(), runs.mkdir()
    (runs / "simclr_pretrain-1a2b3c4d").symlink_to(pretrained, target_is_directory=True)
    heads = sorted(IXI.glob("*_T1.nii.gz"))
    for letter, image in zip("abcd", heads, strict=True):
        shutil.copy(image, scans / f"{letter}_T1w.nii.gz")
        shutil.copy(IXI / "masks" / image.name.replace("_T1", "_mask"), scans / f"{letter}_mask.nii.gz")
    for kind in ("T1w", "mask"):
        image = nib.load(scans / f"a_{kind}.nii.gz")
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), scans / f"e_{kind}.nii.gz")
    if not with_masks:
        for mask in scans.glob("*_mask.nii.gz"):
            mask.unlink()
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert sum(bool(line.strip()) for line in first.splitlines()) <= 15
    names = {}
    plt.figure()
    exec(first, names)
    assert names["places"].shape == (5, 2)
    assert np.linalg.norm(names["places"] - names["places"].mean(axis=0), axis=1).min() > 0
    assert plt.imread("features.png").std() > 0
    assert len(list(Path("features").iterdir())) == 5
    exec(second, names)
    assert names["scores"].shape == (2,) and ((names["scores"] >= 0) & (names["scores"] <= 1)).all()
    plt.close("all")
