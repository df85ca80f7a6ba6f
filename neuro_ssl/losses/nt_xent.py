"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, Algorithm 1).

Differs: keys come from all ranks, and other scans of an anchor's own subject are no negatives for it (in cohorts
with several sessions a subject they would be pushed apart although they show the same brain).

Legend: N pairs on all ranks, n pairs on this rank, D embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro_ssl.distributed import gather_rows


def nt_xent(z1_nD: Tensor, z2_nD: Tensor, subject_n: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each view's partner among the views of all other subjects.

    Args:
        z1_nD: projections of the first views, (pairs on this rank, width), any scale.
        z2_nD: projections of the second views, rows in the same order.
        subject_n: (pairs on this rank,) integer subject codes, the same on all ranks.
        temperature: divisor of the cosine similarities (0.5 in the paper).

    Returns:
        The loss, the mean over this rank's 2n anchors (before `backward` under DDP: `distributed.weighted_for_ddp`),
        and the share of these anchors whose partner is their most similar key. Both are scalars in float32 or wider.
    """
    dtype = torch.promote_types(z1_nD.dtype, torch.float32)  # half-precision logits lose the loss's small digits
    z1_ND, first = gather_rows(F.normalize(z1_nD.to(dtype), dim=1))
    z2_ND, _ = gather_rows(F.normalize(z2_nD.to(dtype), dim=1))
    subject_N, _ = gather_rows(subject_n)
    n, n_pairs = len(z1_nD), len(z1_ND)
    keys_MD = torch.cat([z1_ND, z2_ND])  # M = 2N
    local = torch.arange(first, first + n, device=z1_nD.device)
    anchors = torch.cat([local, local + n_pairs])
    partners = torch.cat([local + n_pairs, local])
    logits_aM = keys_MD[anchors] @ keys_MD.T / temperature

    subject_M = subject_N.repeat(2)
    excluded_aM = subject_M[anchors, None] == subject_M[None]  # the anchor itself, and its subject's other scans
    excluded_aM[torch.arange(2 * n, device=anchors.device), partners] = False
    logits_aM = logits_aM.masked_fill(excluded_aM, -torch.inf)

    loss = F.cross_entropy(logits_aM, partners)
    accuracy = (logits_aM.argmax(dim=1) == partners).to(dtype).mean()
    return loss, accuracy
