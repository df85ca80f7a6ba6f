"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, Algorithm 1).

Differs: keys come from all ranks, and other scans of an anchor's own subject are no negatives for it (in cohorts
with several sessions a subject they would be pushed apart although they show the same brain): they are left out, or
with `positives=subject` are positives too, as in SupCon (Khosla et al. 2020, equation 2, the subject as the class).
"""

from collections.abc import Sequence

from torch import Tensor

from neuro_ssl.losses.contrastive import Positives, contrastive_loss


def nt_xent(
    z1_nD: Tensor,
    z2_nD: Tensor,
    subject_n: Tensor,
    temperature: float,
    positives: Positives = "augmentation",
    shares: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each view's positives among the views of all other subjects; see `contrastive_loss`."""
    return contrastive_loss(z1_nD, z2_nD, subject_n, temperature, positives, shares=shares)
