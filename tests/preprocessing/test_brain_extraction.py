import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.brain_extraction import synthstrip_mask
from neuro_ssl.preprocessing.pipeline import choose_brain_extraction

AFFINE = nib.affines.from_matvec(np.diag([2.0, 2, 2]), (-10, -20, -30))
HEAD = np.random.default_rng(0).random((8, 9, 10), np.float32)


@pytest.fixture
def synthstrip(tmp_path, monkeypatch):
    """Put a stand-in for mri_synthstrip on the PATH: the program is not in any wheel."""

    def install(script):
        command = tmp_path / "bin" / "mri_synthstrip"
        command.parent.mkdir()
        command.write_text(f"#!/bin/bash\n{script}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def test_synthstrip_is_called_with_image_and_mask(synthstrip, tmp_path):
    expected = HEAD > 0.5
    nib.save(nib.Nifti1Image(expected.astype(np.uint8), AFFINE), tmp_path / "answer.nii.gz")
    synthstrip(f'echo "$@" > {tmp_path}/arguments; cp "$2" {tmp_path}/seen.nii.gz; cp {tmp_path}/answer.nii.gz "$4"')
    np.testing.assert_array_equal(synthstrip_mask(HEAD, AFFINE), expected)
    flags = Path(tmp_path / "arguments").read_text().split()
    assert flags[0::2] == ["-i", "-m"]
    seen = nib.load(tmp_path / "seen.nii.gz")
    np.testing.assert_array_equal(seen.get_fdata(dtype=np.float32), HEAD)
    np.testing.assert_allclose(seen.affine, AFFINE)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo CUDA is broken >&2; exit 3", "failed with status 3 .CUDA is broken"),
        ("exit 0", "failed with status 0 .no message"),
    ],
)
def test_a_synthstrip_that_fails(synthstrip, script, message):
    synthstrip(script)
    with pytest.raises(InputError, match=message):
        synthstrip_mask(HEAD, AFFINE)


def test_a_synthstrip_that_finds_nothing(synthstrip, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros(HEAD.shape, np.uint8), AFFINE), tmp_path / "answer.nii.gz")
    synthstrip(f'cp {tmp_path}/answer.nii.gz "$4"')
    with pytest.raises(InputError, match="finds no brain"):
        synthstrip_mask(HEAD, AFFINE)


def test_synthstrip_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="no command mri_synthstrip on the PATH; install FreeSurfer"):
        choose_brain_extraction("synthstrip", {"image": None})
