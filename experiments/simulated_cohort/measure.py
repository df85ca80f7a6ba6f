"""What a neuroradiologist would measure, from an image and its brain mask alone: plain thresholds in boxes.

Positions are millimetres from the mask's centre along the file's axes (RAS), divided by the cube root of the mask's
volume relative to 1.5 l. The scanner's axes are not the head's: a head lies turned by a few degrees.
"""

import nibabel as nib
import numpy as np
from scipy import ndimage

REFERENCE_ML = 1500


def measure(image_path, mask_path):
    """Volumes in ml, intensities relative to white matter."""
    image, mask = (nib.as_closest_canonical(nib.load(path)) for path in (image_path, mask_path))
    voxels, inside = np.asarray(image.dataobj, dtype=np.float32), np.asarray(mask.dataobj) > 0
    spacing_mm = float(image.header.get_zooms()[0])
    voxel_ml = spacing_mm**3 / 1000
    brain_ml = inside.sum() * voxel_ml
    size = (brain_ml / REFERENCE_ML) ** (1 / 3)
    centre = ndimage.center_of_mass(inside)
    x, y, z = (
        (np.arange(n).reshape([-1 if a == axis else 1 for a in range(3)]) - c) * spacing_mm / size
        for axis, (n, c) in enumerate(zip(voxels.shape, centre, strict=True))
    )
    white = np.percentile(voxels[inside], 90)
    relative = voxels / white
    smooth = ndimage.gaussian_filter(relative, 1.0 / spacing_mm)  # noise of one voxel is not fluid
    tissue = inside & (smooth > 0.5)
    depth_mm = ndimage.distance_transform_edt(inside) * spacing_mm / size
    fluid = inside & (smooth < 0.5)

    box = (np.abs(x) < 40) & (y > -55) & (y < 55) & (z > -15) & (z < 35)
    central = fluid & box & (depth_mm > 18)
    medial_temporal = ((np.abs(x) - 25) ** 2 + ((y + 2) / 1.6) ** 2 + (z + 22) ** 2 < 15**2) & inside
    mirror = smooth[::-1][_mirror_index(len(smooth), centre[0])]
    darker = (mirror - smooth > 0.22) & (depth_mm > 6) & (np.abs(x) > 5)
    lesion = ndimage.binary_opening(darker, iterations=1)
    labels, n_lesions = ndimage.label(lesion)
    largest = np.bincount(labels.ravel())[1:].max() if n_lesions else 0

    air = voxels[~ndimage.binary_dilation(voxels > 0.15 * white, iterations=3)]
    grey = relative[inside & (depth_mm > 3) & (depth_mm < 14) & (smooth > 0.5)]
    return {
        "brain_ml": brain_ml,
        "tissue_ml": tissue.sum() * voxel_ml,
        "ventricles_ml": central.sum() * voxel_ml,
        "medial_temporal": (medial_temporal & tissue).sum() / medial_temporal.sum(),
        "lesion_ml": largest * voxel_ml,
        "noise": float(air.mean() / np.sqrt(np.pi / 2) / white) if air.size else np.nan,
        "grey": float(np.percentile(grey, 20)),
        "csf": float(np.percentile(relative[central], 25)) if central.any() else np.nan,
    }


def _mirror_index(n, middle):
    """For each slice of the flipped array, which one shows the mirror image about `middle`."""
    wanted = 2 * middle - np.arange(n)  # slice of the unflipped array
    return np.clip(n - 1 - np.round(wanted), 0, n - 1).astype(int)
