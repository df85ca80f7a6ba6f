"""What the contrastive losses share: every view is an anchor that must find its positives among all views of the batch.

Memory: logits exist for a block of anchors at a time and are computed again in the backward, so that it grows with the
number of keys and not with its square. (The paper's code holds (2N)² × D numbers.)

Legend: N scans on all ranks, n of them on this one, two views each; M = 2N keys, the views of scan i in rows 2i and
2i + 1; b anchors of one block; D embedding width; C covariates.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from neuro_ssl.distributed import gather_rows

Positives = Literal["augmentation", "subject"]
Similarity = Callable[[Tensor, Tensor], Tensor]  # covariates (b, C) and (M, C) → (b, M) from 0 to 1

BLOCK = 256  # anchors; with 8,192 keys a float32 tensor of their logits takes 8 MB


def contrastive_loss(
    z1_nD: Tensor,
    z2_nD: Tensor,
    subject_n: Tensor,
    temperature: float,
    positives: Positives = "augmentation",
    covariate_nC: Tensor | None = None,
    similarity: Similarity | None = None,
    shares: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy between each anchor's softmax over the keys and its normalised weights on them.

    An anchor's weights: 0 on itself, 1 on the other view of its scan; on views of its subject's other scans 1 with
    `positives=subject`, while with `positives=augmentation` those are left out, neither drawn near nor pushed away;
    on other subjects' views what `similarity` says, and without it 0.

    Args:
        z1_nD: projections of the first views, (scans on this rank, width), any scale.
        z2_nD: projections of the second views, rows in the same order.
        subject_n: (scans on this rank,) integer subject codes, the same on all ranks.
        temperature: divisor of the cosine similarities.
        positives: what counts as showing the same as the anchor.
        covariate_nC: what `similarity` compares, (scans on this rank, covariates).
        similarity: of the covariates of anchors and keys.
        shares: number of scans on every rank, where known on the host; see `distributed.gather_rows`.

    Returns:
        The loss, the mean over this rank's 2n anchors (before `backward` under DDP: `distributed.weighted_for_ddp`),
        and the share of these anchors whose most similar key shows their own subject. Both are scalars in float32 or
        wider, whatever the inputs' type and autocast.
    """
    dtype = torch.promote_types(z1_nD.dtype, torch.float32)  # half-precision logits lose the loss's small digits
    with torch.autocast(z1_nD.device.type, enabled=False):
        z_n2D = F.normalize(torch.stack([z1_nD, z2_nD], dim=1).to(dtype), dim=2)
        z_N2D, first = gather_rows(z_n2D, shares)
        keys_MD = z_N2D.flatten(0, 1)
        subject_M = gather_rows(subject_n, shares)[0].repeat_interleave(2)
        covariate_MC = None
        if covariate_nC is not None:
            covariate_MC = gather_rows(covariate_nC.to(dtype), shares)[0].repeat_interleave(2, dim=0)
        n = 2 * len(z1_nD)
        loss, hits = keys_MD.new_zeros(()), keys_MD.new_zeros(())
        for start in range(2 * first, 2 * first + n, BLOCK):
            rows = slice(start, min(start + BLOCK, 2 * first + n))
            arguments = (rows, keys_MD, subject_M, temperature, positives, covariate_MC, similarity)
            block_loss, block_hits = checkpoint(_block, *arguments, use_reentrant=False, preserve_rng_state=False)
            loss, hits = loss + block_loss, hits + block_hits
        return loss / n, hits / n


def _block(
    rows: slice,
    keys_MD: Tensor,
    subject_M: Tensor,
    temperature: float,
    positives: Positives,
    covariate_MC: Tensor | None,
    similarity: Similarity | None,
) -> tuple[Tensor, Tensor]:
    """Summed loss, and number of hits, of the anchors in these rows."""
    row_M = torch.arange(len(keys_MD), device=keys_MD.device)
    row_b1 = row_M[rows, None]
    own_bM = subject_M[rows, None] == subject_M  # the anchor, its partner, and its subject's other scans
    excluded_bM = own_bM & (row_M != row_b1 ^ 1) if positives == "augmentation" else row_M == row_b1
    weight_bM = (own_bM & ~excluded_bM).to(keys_MD.dtype)
    if similarity is not None and covariate_MC is not None:
        weight_bM = torch.where(own_bM, weight_bM, similarity(covariate_MC[rows], covariate_MC))
    weight_bM = weight_bM / weight_bM.sum(dim=1, keepdim=True)  # at least the partner's 1

    logits_bM = keys_MD[rows] / temperature @ keys_MD.T
    open_bM = logits_bM.masked_fill(excluded_bM, -torch.inf)
    loss_b = open_bM.logsumexp(dim=1) - (weight_bM * logits_bM).sum(dim=1)
    hit_b = own_bM.gather(1, open_bM.detach().argmax(dim=1, keepdim=True))
    return loss_b.sum(), hit_b.sum().to(keys_MD.dtype)
