"""Explanations as `python -m neuro_ssl.explain` leaves them: real anatomy, attribution in the LEFT hippocampus alone.

`python tests/reporting/fake_explanations.py DIR`.
"""

import sys
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import yaml

from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.template import template_brain

LEFT_HIPPOCAMPUS_MM = (-26.0, -20.0, -16.0)  # MNI; x is negative on the left


def write_explanation(
    runs_dir, method="integrated_gradients", *, run="finetune-brain_age-1a2b3c4d", signed=True, grid="4mm", simulated=True, **facts
):
    """One folder, and its path."""
    folder = Path(runs_dir) / "explanations" / run / f"{method}-0123abcd"
    folder.mkdir(parents=True)
    brain = brain_on(Grid.named(grid))
    mm = np.moveaxis(nib.affines.apply_affine(brain.affine, np.moveaxis(np.indices(brain.shape), 0, -1)), -1, 0)
    squares = sum((axis - centre) ** 2 for axis, centre in zip(mm, LEFT_HIPPOCAMPUS_MM, strict=True))
    noise = np.random.default_rng(0).normal(0, 1e-5, brain.shape)
    values = (np.exp(-squares / (2 * 6.0**2)) * 0.01 + noise) * (brain.get_fdata() > 0)
    nib.save(nib.Nifti1Image((values if signed else np.abs(values)).astype(np.float32), brain.affine), folder / "mean.nii.gz")
    nib.save(brain, folder / "background.nii.gz")
    picture, figure = BytesIO(), plt.figure(figsize=(4, 1.5))
    figure.add_subplot().imshow(np.abs(values).max(axis=2).T, origin="lower")
    figure.savefig(picture, format="png")
    plt.close(figure)
    (folder / "figure.png").write_bytes(picture.getvalue())
    (folder / "explanation.yaml").write_text(yaml.safe_dump(described(method, run, signed, grid, simulated) | facts))
    return folder


def described(method, run, signed, grid, simulated):
    return {
        "method": method,
        "settings": {"n_steps": 32, "baseline": "zero"},
        "output": "predicted age (years)",
        "signed": signed,
        "run": run,
        "weights": f"runs/{run}",
        "task": "brain_age",
        "cohort": "simulated" if simulated else "ixi",
        "simulated": simulated,
        "grid": grid,
        "split": "test",
        "n_scans": 43,
        "n_subjects": 36,
        "command": f"python -m neuro_ssl.explain weights=runs/{run} method={method}",
        "versions": {"python": "3.11.9", "torch": "2.8.0", "captum": "0.8.0"},
        "commit": "0123456789abcdef",
        "dirty": False,
    }


def brain_on(grid):
    """The template's brain, nearest voxels of the grid."""
    brain, affine = template_brain(2)
    shape = grid.shape[::-1]
    mm = nib.affines.apply_affine(grid.affine, np.moveaxis(np.indices(shape), 0, -1))
    index = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), mm)).astype(int)
    inside = np.all((index >= 0) & (index < brain.shape), axis=-1)
    values = np.zeros(shape, np.float32)
    values[inside] = brain[tuple(index[inside].T)]
    return nib.Nifti1Image(values, grid.affine)


if __name__ == "__main__":
    for method, signed in {"integrated_gradients": True, "gradient_x_input": True, "grad_cam": False}.items():
        write_explanation(Path(sys.argv[1]), method, signed=signed)
