"""Mean squared error on masked patches, the loss of masked autoencoders (He et al. 2022, section 3).

Differs: variances are divided by the number of voxels, as in the paper and not in its code, so that predicting every
patch's mean costs 1 (where a patch has any contrast); and the mean is taken over each scan's own masked patches first,
so that all scans count alike, however many of their patches are masked.

Legend: B batch, N patches, P voxels of a patch.
"""

import torch
from torch import Tensor

EPSILON = 1e-6  # added to variances, as in the authors' code


def patch_statistics(patches_BNP: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (batch, patches, 1) each."""
    variance, mean = torch.var_mean(patches_BNP, dim=2, correction=0, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def masked_reconstruction(
    prediction_BNP: Tensor, patches_BNP: Tensor, masked_BN: Tensor, normalise_patches: bool = True
) -> Tensor:
    """How far the prediction is from the masked patches.

    Args:
        prediction_BNP: (batch, patches, voxels of a patch).
        patches_BNP: the truth, of the same shape.
        masked_BN: boolean, which patches count.
        normalise_patches: the target is each patch with mean 0 and variance 1; else as it is.

    Returns:
        One loss a sample, (batch,), in float32 or wider, whatever the inputs' type and autocast; 0 where nothing is
        masked.
    """
    dtype = torch.promote_types(prediction_BNP.dtype, torch.float32)
    with torch.autocast(prediction_BNP.device.type, enabled=False):
        target_BNP = patches_BNP.to(dtype)
        if normalise_patches:
            mean, sd = patch_statistics(target_BNP)
            target_BNP = (target_BNP - mean) / sd
        error_BN = (prediction_BNP.to(dtype) - target_BNP).square().mean(dim=2)
        weight_BN = masked_BN.to(dtype)
        return (error_BN * weight_BN).sum(dim=1) / weight_BN.sum(dim=1).clamp(min=1)
