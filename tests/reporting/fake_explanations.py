"""Explanations as `python -m neuro_ssl.explain` leaves them: an ellipsoid's left hippocampus matters, nothing else.

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

LEFT_HIPPOCAMPUS_MM = (-26.0, -20.0, -16.0)  # MNI; x is negative on the left
RUN = "finetune-brain_age-1a2b3c4d"


def write_explanation(runs_dir, method="integrated_gradients", *, run=RUN, signed=True, grid="8mm", **facts):
    """One folder, and its path.

    The map is highest in the left hippocampus and lowest above it; without a sign, some of it is outside the brain.
    """
    folder = Path(runs_dir) / "explanations" / run / f"{method}-0123abcd"
    folder.mkdir(parents=True)
    affine, mm = Grid.named(grid).affine, positions_mm(grid)
    brain = np.where(blob(mm, (0, -20, 10), (62, 82, 62), 0) > 0, 0.7 + 0.3 * np.sin(mm[1] / 9), 0)
    values = 0.01 * blob(mm, LEFT_HIPPOCAMPUS_MM, (10, 10, 10), 0.1)
    if signed:
        values -= 0.006 * blob(mm, (-26, -20, 34), (10, 10, 10), 0.1)
    else:
        values += 0.006 * blob(mm, (74, 44, -16), (10, 10, 10), 0.1)
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), folder / "mean.nii.gz")
    nib.save(nib.Nifti1Image(brain.astype(np.float32), affine), folder / "background.nii.gz")
    (folder / "figure.png").write_bytes(picture(values))
    (folder / "explanation.yaml").write_text(yaml.safe_dump(record(method, run, signed, grid) | facts))
    return folder


def record(method, run, signed, grid):
    return {
        "method": method,
        "settings": {"n_steps": 32},
        "output": "predicted age (years)",
        "unit": "years",
        "signed": signed,
        "run": run,
        "weights": f"runs/{run}",
        "task": "brain_age",
        "cohort": "simulated",
        "simulated": True,
        "grid": grid,
        "split": "test",
        "n_scans": 43,
        "n_subjects": 36,
        "completeness_error": 0.021 if method == "integrated_gradients" else None,
        "outside_brain": 0.0 if signed else 0.15,
        "sanity_check": {"n_scans": 4, "likeness": {"head": 0.71, "input": 0.23}},
        "command": f"python -m neuro_ssl.explain weights=runs/{run} methods=[{method}]",
        "versions": {"python": "3.11.9", "captum": "0.8.0"},
        "commit": "0123456789abcdef",
        "dirty": False,
    }


def positions_mm(grid):
    """(3, x, y, z): where each voxel is."""
    indices = np.moveaxis(np.indices(Grid.named(grid).shape[::-1]), 0, -1)
    return np.moveaxis(nib.affines.apply_affine(Grid.named(grid).affine, indices), -1, 0)


def blob(mm, centre_mm, radii_mm, edge):
    """1 at the centre of an ellipsoid, falling to `edge` at its surface, 0 beyond."""
    parts = [((axis - c) / r) ** 2 for axis, c, r in zip(mm, centre_mm, radii_mm, strict=True)]
    distance = np.sqrt(sum(parts))
    return np.where(distance <= 1, 1 - (1 - edge) * distance, 0)


def picture(values):
    buffer, figure = BytesIO(), plt.figure(figsize=(4, 1.5))
    figure.add_subplot().imshow(np.abs(values).max(axis=2).T, origin="lower")
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()


if __name__ == "__main__":
    for name, sign in {"integrated_gradients": True, "gradient_x_input": True, "grad_cam": False}.items():
        write_explanation(sys.argv[1], name, signed=sign, grid="4mm")
