"""N4 bias field correction (Tustison et al. 2010, doi 10.1109/TMI.2010.2046908), by SimpleITK.

Four levels of B-splines, as in the paper's chain. The field is smooth (its finest knots lie about 30 mm apart), so a
lattice of about 6 mm is enough to fit it.
"""

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from neuro_ssl.errors import InputError
from neuro_ssl.preprocessing.itk import from_itk, to_itk

LATTICE_MM = 6.0
ITERATIONS = [50, 50, 50, 50]  # at most, for each level
CONVERGENCE = 1e-3


def correct_bias_field(voxels: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Divide an image by its bias field.

    Args:
        voxels: (x, y, z), a whole head or a stripped brain.
        affine: from voxel indices to mm; only voxel sizes matter.

    Returns:
        The corrected image. The field's mean logarithm over the foreground (Otsu's threshold) is 0.

    Raises:
        InputError: N4 fails.
    """
    image = to_itk(voxels, affine)
    shrink = [max(1, round(LATTICE_MM / spacing)) for spacing in image.GetSpacing()]
    lattice = sitk.Shrink(image, shrink)
    foreground = sitk.OtsuThreshold(lattice, 0, 1, 200)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # sums over threads would differ in their last digits from run to run
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.SetConvergenceThreshold(CONVERGENCE)
    try:
        n4.Execute(lattice, foreground)
    except RuntimeError as error:  # ITK's only exception
        reason = str(error).strip().rpartition("\n")[2].strip()
        raise InputError(f"N4 cannot correct its bias field ({reason}); or set bias_correction=false") from error
    level = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(lattice))[sitk.GetArrayFromImage(foreground) > 0].mean()
    field = from_itk(n4.GetLogBiasFieldAsImage(image))
    corrected: npt.NDArray[np.float32] = voxels / np.exp(field - np.float32(level))
    return corrected
