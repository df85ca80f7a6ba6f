"""y-aware contrastive pretraining (Dufumier et al. 2021): SimCLR in which scans of similar age are positives too.

Not free of labels: it learns from columns of the manifest, age by default. What it is later tested on must not be among
them without saying so; a run's record lists them.
"""

from types import MappingProxyType

from torch import Tensor, nn

from neuro_ssl.data.batches import Batch
from neuro_ssl.errors import InputError
from neuro_ssl.losses import y_aware
from neuro_ssl.losses.contrastive import Positives
from neuro_ssl.optim import Optimizer
from neuro_ssl.tasks.simclr import SimCLR


class YAware(SimCLR):
    """Contrastive pretraining of an encoder with covariates. A scan without one has its own views alone, as in SimCLR.

    Args:
        encoder: see `SimCLR`, as the others.
        covariates: columns of the manifest; several: scans must be similar in all of them.
        bandwidths: of each, σ of the Gaussian kernel, in its unit (5 years is that of the authors' released code);
            0: for equal values alone, as of words.
        temperature: 0.1 is that of the authors' released code.
        positives: how other scans of the anchor's own subject count, whatever their covariates: augmentation leaves
            them out, subject makes them full positives.
    """

    def __init__(
        self,
        encoder: nn.Module,
        views: nn.Module | None,
        optimizer: Optimizer,
        seed: int,
        covariates: tuple[str, ...] = ("age_years",),
        bandwidths: tuple[float, ...] = (5.0,),
        projector_dims: tuple[int, ...] = (512, 64),
        temperature: float = 0.1,
        positives: Positives = "subject",
        micro_batch_size: int | None = None,
    ) -> None:
        super().__init__(encoder, views, optimizer, seed, projector_dims, temperature, positives, micro_batch_size)
        if not covariates or len(covariates) != len(bandwidths) or len(set(covariates)) < len(covariates):
            raise InputError(
                "task.covariates and task.bandwidths must be different columns and one bandwidth for each, got "
                f"{list(covariates)} and {list(bandwidths)}"
            )
        if min(bandwidths) < 0:
            raise InputError(f"task.bandwidths must be at least 0, got {list(bandwidths)}")
        self.covariates = MappingProxyType(dict(zip(covariates, bandwidths, strict=True)))

    def loss(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and contrastive accuracy of the projections of a batch's views, (batch, width) each."""
        bandwidths = tuple(self.covariates.values())
        return y_aware(
            *(first, second, batch["subject"], batch["covariates"], bandwidths),
            *(self.temperature, self.positives, batch["shares"]),
        )
