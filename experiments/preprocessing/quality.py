"""Does quality control find what is wrong, and leave the rest alone? Faults planted in real heads.

    python experiments/preprocessing/quality.py HEADS WORK [--masks MASKS] [--grid 2mm] [--n-jobs 2]

HEADS is a folder of whole heads of different subjects (`*.nii.gz`), MASKS of their brain masks under the same names
(made by deepbet if not given), WORK keeps what was made. Each fault is planted in every eighth head, in a cohort of
which it is the only fault: the other heads stay as they are.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torchio
from joblib import Parallel, delayed
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.brain_extraction import deepbet_mask
from neuro_ssl.preprocessing.nifti import read_nifti
from neuro_ssl.preprocessing.outliers import judge
from neuro_ssl.preprocessing.pipeline import Preprocessing
from neuro_ssl.preprocessing.quality import measure_volume

EVERY = 8  # heads: one in so many gets the faults


def turned(affine, degrees, axis, centre_mm):
    """The affine of a header that says the head is turned about its centre."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    turn[:3, 3] = centre_mm - turn[:3, :3] @ centre_mm
    return turn @ affine


def without(mask, affine, to_scan, keep):
    """The mask without the places (MNI mm) that `keep` says no to."""
    indices = np.argwhere(mask)
    mni = nib.affines.apply_affine(np.linalg.inv(to_scan) @ affine, indices)
    smaller = mask.copy()
    smaller[tuple(indices[~keep(*mni.T)].T)] = False
    return smaller


def noisy(voxels, mask, share, rng):
    """Rician noise, white matter being 1."""
    sigma = share * np.percentile(voxels[mask], 90)
    real, imaginary = rng.normal(0, sigma, (2, *voxels.shape))
    return np.hypot(voxels + real, imaginary).astype(np.float32)


def moved(voxels, affine, degrees):
    """The head nods and turns twice during the scan (Shaw et al. 2019, as in torchio)."""
    image = torchio.ScalarImage(tensor=voxels[None], affine=affine)
    motion = torchio.transforms.Motion(
        degrees=np.array([[degrees, 0, degrees], [-degrees, degrees, 0]]),
        translation=np.array([[0, degrees / 2, 0], [0, 0, degrees / 2]]),
        times=np.array([0.3, 0.7]),
        image_interpolation="linear",
    )
    return motion(image).data[0].numpy().astype(np.float32)


def neck(voxels, mask):
    """A mask of head tissue as large as the brain, as low as the field of view allows."""
    tissue = voxels > np.percentile(voxels[mask], 20)
    indices = np.argwhere(tissue)
    lowest = indices[np.argsort(indices[:, 2], kind="stable")[: mask.sum() * 3 // 4]]
    low = np.zeros_like(mask)
    low[tuple(lowest.T)] = True
    return low


def faults(voxels, mask, affine, to_scan):
    """Each fault's voxels, mask and affine."""
    rng = np.random.default_rng(0)
    centre = nib.affines.apply_affine(affine, ndimage.center_of_mass(mask))
    lobes = {
        "right frontal": lambda x, y, z: ~((x > 0) & (y > 15)),
        "left temporal": lambda x, y, z: ~((x < -20) & (z < 0) & (y > -45)),
        "occipital": lambda x, y, z: ~((y < -68) & (z > -30)),
    }
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    yield "left and right swapped in the header", voxels, mask, flip @ affine
    yield "header turned by 75° in plane", voxels, mask, turned(affine, 75, "z", centre)
    yield "header turned by 90°: face down", voxels, mask, turned(affine, 90, "x", centre)
    yield "header turned by 30° in plane", voxels, mask, turned(affine, 30, "z", centre)
    for name, keep in lobes.items():
        yield f"mask without the {name} lobe", voxels, without(mask, affine, to_scan, keep), affine
    yield "mask over the neck", voxels, neck(voxels, mask), affine
    for share in (0.05, 0.1, 0.2):
        yield f"noise, {share:.0%} of white matter", noisy(voxels, mask, share, rng), mask, affine
    for degrees in (2, 5):
        yield f"motion, {degrees}°", moved(voxels, affine, degrees), mask, affine
    yield "second copy, stored anew", voxels * np.float32(1.1), mask, affine
    shifted = ndimage.affine_transform(voxels, np.eye(3), (0.4, 0.6, 0.5), order=1)
    yield "second copy, resampled and noisy", noisy(shifted, mask, 0.03, rng), mask, affine
    yield "second copy, left and right swapped", voxels, mask, flip @ affine


def make_good(file, args):
    """Preprocess a head as it is."""
    mask = args.masks / file.name
    if not mask.is_file():
        voxels, affine = read_nifti(file)
        mask.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(deepbet_mask(voxels, affine).astype(np.uint8), affine), mask)
    preprocessed(args.grid, args.work / "good" / f"{file.name}.npz", file, mask)


def make_faulty(file, args):
    """Preprocess a head with each of the faults."""
    voxels, affine = read_nifti(file)
    mask = read_nifti(args.masks / file.name)[0] > 0.5
    to_scan = np.load(args.work / "good" / f"{file.name}.npz")["to_scan"]
    for fault, *parts in faults(voxels, mask, affine, to_scan):
        folder = args.work / "faulty" / fault.replace("/", "-")
        image, its_mask, kept = folder / file.name, folder / f"mask_{file.name}", folder / f"{file.name}.npz"
        if not kept.exists():
            image.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(parts[0], parts[2]), image)
            nib.save(nib.Nifti1Image(parts[1].astype(np.uint8), parts[2]), its_mask)
            preprocessed(args.grid, kept, image, its_mask)


def preprocessed(grid, kept, image, mask):
    """The volume and its measurements, made once; or the reason of a refusal."""
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            brain = Preprocessing(Grid.named(grid), "mask")(str(image), str(mask))
            content = {"volume": brain.volume, "to_scan": brain.to_scan, "refused": "", **brain.measurements}
        except InputError as error:
            content = {"refused": str(error)}
        np.savez_compressed(kept, **content)


def measured(kept, grid):
    """A scan's row and fingerprint; its refusal instead, where preprocessing refused it."""
    content = dict(np.load(kept))
    refusal = str(content.pop("refused"))
    if refusal:
        return refusal, None
    content.pop("to_scan")
    of_volume, fingerprint = measure_volume(content.pop("volume"), Grid.named(grid))
    name = kept.name.removesuffix(".nii.gz.npz")
    row = {"scan_id": name, "subject_id": name, "image_hash": name}
    return {**row, **{key: float(value) for key, value in content.items()}, **of_volume}, fingerprint


def judged(scans):
    """The scans' flags, as names of measurements."""
    table = pd.DataFrame([row for row, _ in scans])
    table, flags = judge(table, np.stack([fingerprint for _, fingerprint in scans]), [False] * len(scans))
    return table, [[flag.measurement for flag in own] for own in flags]


def evaluate(args):
    """Print how many of the good heads are flagged, and of each fault how many."""
    good = [measured(kept, args.grid) for kept in sorted((args.work / "good").glob("*.npz"))]
    names = [row["scan_id"] for row, _ in good]
    table, flags = judged(good)
    flagged = {name: own for name, own in zip(names, flags, strict=True) if own}
    print(f"{len(flagged)} of {len(good)} good heads are flagged: {flagged or 'none'}")
    side = table["sidedness"]
    print(
        f"sidedness of good heads: {side.min():.2f} to {side.max():.2f}, median {side.median():.2f}; swapped, each of"
    )
    print(f"  them would have minus that: {sum(side > 0.1)} of {len(side)} would be flagged (below -0.1)")
    print(f"likeness to another head: at most {table['copy_correlation'].max():.2f}\n")

    report = []
    for folder in sorted((args.work / "faulty").iterdir()):
        by, found, refused, total = {}, 0, 0, 0
        for kept in sorted(folder.glob("*.npz")):
            row, fingerprint = measured(kept, args.grid)
            total += 1
            if fingerprint is None:
                refused += 1
                continue
            at = names.index(kept.name.removesuffix(".nii.gz.npz"))
            if "copy" in folder.name:
                row |= {"scan_id": "copy", "subject_id": "copy", "image_hash": "copy"}
                own = judged([*good, (row, fingerprint)])[1][-1]
            else:
                own = judged([*good[:at], (row, fingerprint), *good[at + 1 :]])[1][at]
            found += bool(own)
            for measurement in own:
                by[measurement] = by.get(measurement, 0) + 1
        report.append({"fault": folder.name, "heads": total, "flagged": found, "refused": refused, "by": by})
    copies = [[*good, (row | {"scan_id": "copy", "subject_id": "copy"}, own)] for row, own in good[::EVERY]]
    found = sum("image_hash" in judged(scans)[1][-1] for scans in copies)
    same = {"fault": "second copy, the same file", "heads": len(copies), "flagged": found, "refused": 0}
    report.append(same | {"by": {"image_hash": found}})
    print(pd.DataFrame(report).to_string(index=False))


def main():
    """Make what is missing, and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--grid", default="2mm")
    parser.add_argument("--n-jobs", type=int, default=2)
    args = parser.parse_args()
    files = sorted(args.heads.glob("*.nii.gz"))
    args.masks = args.masks or args.work / "masks"
    parallel = Parallel(args.n_jobs)
    parallel(delayed(make_good)(file, args) for file in files)
    parallel(delayed(make_faulty)(file, args) for file in files[::EVERY])
    evaluate(args)


if __name__ == "__main__":
    main()
