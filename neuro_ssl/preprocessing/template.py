"""The MNI152 template that brains are registered to: ICBM 152 2009 nonlinear symmetric, from nilearn's wheel.

It is version 09a, the paper used 09c: one space, another grid (ours is 09c's, see `neuro_ssl.grid`).
"""

import functools

import numpy as np
import numpy.typing as npt


@functools.cache
def template_brain(spacing_mm: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """The T1w template without its skull, once a process.

    Args:
        spacing_mm: isotropic voxel size.

    Returns:
        Intensities, (x, y, z) in RAS orientation, 0 outside the brain; and the 4×4 matrix from voxel indices to RAS mm.
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    image = load_mni152_template(resolution=spacing_mm)
    mask = np.asarray(load_mni152_brain_mask(resolution=spacing_mm).dataobj) > 0
    return np.where(mask, np.asarray(image.dataobj, np.float32), np.float32(0)), image.affine
