"""y-aware InfoNCE (Dufumier et al. 2021, MICCAI, "Contrastive Learning with Continuous Proxy Meta-Data for 3D MRI
Classification", equation 3): the views of scans with a similar age, say, are positives too, the more the closer.

As in their released code, both views of every scan are anchors and keys, and the denominator holds every key but the
anchor. Differs: weights are normalised over each anchor's keys (their code divides by the key's sum); the mean is over
the 2N anchors (theirs is twice as large); several covariates; other scans of the anchor's subject, which they don't
tell from others, are left out or full positives.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from neuro_ssl.losses.contrastive import Positives, contrastive_loss


def covariate_similarity(covariate_bC: Tensor, covariate_MC: Tensor, bandwidths: Sequence[float]) -> Tensor:
    """The product over the covariates of Gaussian kernels exp(−(a − b)² / 2σ²).

    Args:
        covariate_bC: numbers, or codes of categories; NaN where unknown.
        covariate_MC: those to compare them with.
        bandwidths: σ of each covariate, in its unit; 0, the limit: 1 for equal values and 0 for others.

    Returns:
        (b, M) from 0 to 1; 0 where a covariate of either is unknown, so that such a scan has its own views alone.
    """
    similarity_bM = covariate_bC.new_ones(len(covariate_bC), len(covariate_MC))
    for i, bandwidth in enumerate(bandwidths):
        difference_bM = covariate_bC[:, i, None] - covariate_MC[:, i]
        if bandwidth:
            similarity_bM = similarity_bM * torch.exp(-0.5 * (difference_bM / bandwidth).square())
        else:
            similarity_bM = similarity_bM * (difference_bM == 0)
    return similarity_bM.nan_to_num(0.0)


def y_aware(
    z1_nD: Tensor,
    z2_nD: Tensor,
    subject_n: Tensor,
    covariate_nC: Tensor,
    bandwidths: Sequence[float],
    temperature: float,
    positives: Positives = "augmentation",
    shares: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each view's positives, weighted by how near their covariates are; see `contrastive_loss`.

    Args:
        covariate_nC: (scans on this rank, covariates); NaN where unknown.
        bandwidths: see `covariate_similarity`. As they go to 0 the loss becomes `nt_xent`, unless values are equal.
    """
    similarity = functools.partial(covariate_similarity, bandwidths=bandwidths)
    return contrastive_loss(z1_nD, z2_nD, subject_n, temperature, positives, covariate_nC, similarity, shares)
