"""How well a head that moved lands where it lay before: SimpleITK (the package's own chain) or ANTs.

    python experiments/preprocessing/accuracy.py HEAD.nii.gz … [--tool simpleitk|ants] [--motions 4]

Each head is turned by up to 15° about a random axis and shifted by up to 20 mm in a random direction, resampled as if
it had been scanned again, and goes through bias field correction, deepbet and rigid registration anew. Compared is the
map from MNI space to the scan with that of the untouched head: median distance over the brain, and angle. One thread.
ANTs needs an environment of its own (pip install antspyx), since it holds numpy and scipy back.
"""

import argparse
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuro_ssl.preprocessing.bias_field import correct_bias_field
from neuro_ssl.preprocessing.brain_extraction import deepbet_mask
from neuro_ssl.preprocessing.itk import to_itk
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.registration import register
from neuro_ssl.preprocessing.template import template_brain


def to_ants(voxels, affine):
    import ants

    image = to_itk(voxels, affine)
    direction = np.reshape(image.GetDirection(), (3, 3))
    return ants.from_numpy(voxels.astype(np.float32), list(image.GetOrigin()), list(image.GetSpacing()), direction)


def ants_bias_field(voxels, affine):
    import ants

    image = to_ants(voxels, affine)
    corrected = ants.n4_bias_field_correction(image, shrink_factor=4, convergence={"iters": [25, 25, 25], "tol": 1e-3})
    return corrected.numpy().astype(np.float32)


def ants_register(voxels, mask, affine):
    import ants

    template, template_affine = template_brain(2)
    fixed, moving = to_ants(template, template_affine), to_ants(np.where(mask, voxels, 0), affine)
    found = ants.registration(fixed, moving, "Rigid", random_seed=0, initial_transform=None)
    transform = ants.read_transform(found["fwdtransforms"][0])
    lps = np.diag([-1.0, -1.0, 1.0])
    points = [np.zeros(3), *np.eye(3) * 100]
    images = [lps @ transform.apply_to_point(lps @ point) for point in points]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([(image - images[0]) / 100 for image in images[1:]], 1)
    matrix[:3, 3] = images[0]
    return matrix


TOOLS = {"simpleitk": (correct_bias_field, register), "ants": (ants_bias_field, ants_register)}


def random_motion(rng):
    def direction():
        vector = rng.normal(size=3)
        return vector / np.linalg.norm(vector)

    rotation = Rotation.from_rotvec(np.radians(rng.uniform(5, 15)) * direction()).as_matrix()
    return nib.affines.from_matvec(rotation, rng.uniform(5, 20) * direction())


def moved(voxels, affine, motion):
    """The head after a motion, scanned on the same grid, enlarged by 20 voxels so that nothing leaves it."""
    voxels = np.pad(voxels, 20)
    affine = affine @ nib.affines.from_matvec(np.eye(3), [-20, -20, -20])
    pull = np.linalg.inv(affine) @ np.linalg.inv(motion) @ affine
    return ndimage.affine_transform(voxels, pull[:3, :3], pull[:3, 3], order=1), affine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="+", type=Path)
    parser.add_argument("--tool", choices=TOOLS, default="simpleitk")
    parser.add_argument("--motions", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    bias, registration = TOOLS[options.tool]
    rng = np.random.default_rng(0)

    def chain(voxels, affine):
        times = [time.perf_counter()]
        corrected = bias(voxels, affine)
        times.append(time.perf_counter())
        mask = deepbet_mask(corrected, affine)
        times.append(time.perf_counter())
        to_scan = registration(corrected, mask, affine)
        times.append(time.perf_counter())
        return to_scan, mask, np.diff(times)

    rows = []
    for head in options.heads:
        voxels, affine = read_nifti(head)
        still, mask, seconds = chain(voxels, affine)
        world = nib.affines.apply_affine(np.linalg.inv(still) @ affine, np.argwhere(mask)[::500])  # MNI mm
        lay = nib.affines.apply_affine(still, world)
        for _ in range(options.motions):
            motion = random_motion(rng)
            found, _, _ = chain(*moved(voxels, affine, motion))
            back = np.linalg.inv(motion) @ found
            distance = np.median(np.linalg.norm(nib.affines.apply_affine(back, world) - lay, axis=1))
            angle = np.degrees(Rotation.from_matrix(np.linalg.inv(still)[:3, :3] @ back[:3, :3]).magnitude())
            rows.append([head.name[:16], distance, angle, *seconds])
            print(*rows[-1], flush=True)
    table = pd.DataFrame(rows, columns=["head", "mm", "degrees", "N4 s", "deepbet s", "registration s"])
    summary = table.groupby("head").agg(
        {
            "mm": ["median", "max"],
            "degrees": ["median", "max"],
            "N4 s": "first",
            "deepbet s": "first",
            "registration s": "first",
        }
    )
    print(f"\n{options.tool}\n{summary.round(2).to_string()}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
