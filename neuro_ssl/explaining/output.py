"""What is explained: one number a scan, as a function of the encoder's input.

Of a trained task it is the prediction before its link: a logit, or the value in the target's own unit, since a
probability hardly moves where the model is sure. An encoder without a head has no such number. For it we take half the
squared distance of the scan's features, each in units of its standard deviation, from their mean over the explained
scans: what makes this scan differ from the others.
"""

import torch
from torch import Tensor, nn

from neuro_ssl.contract import Intensity
from neuro_ssl.errors import InputError
from neuro_ssl.views.intensity import intensity_of


class Explained(nn.Module):
    """An encoder and what is read off its features: inputs (batch, 1, z, y, x) → (batch,).

    In evaluation mode, and without gradients of its parameters: those of its input are wanted.

    Args:
        encoder: inputs → features (batch, embed_dim).
        readout: features → (batch,).
    """

    def __init__(self, encoder: nn.Module, readout: nn.Module) -> None:
        super().__init__()
        self.encoder, self.readout = encoder, readout
        self.eval().requires_grad_(False)

    @property
    def intensity(self) -> Intensity:
        """How a store's volumes become inputs, the encoder's own."""
        return intensity_of(self.encoder)

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x), normalised → (batch,)."""
        return self.readout(self.encoder(volume))  # type: ignore[no-any-return]


class Linear(nn.Module):
    """A linear layer with one output.

    Args:
        weight: (features,).
        intercept: a number.
    """

    weight: Tensor
    intercept: Tensor

    def __init__(self, weight: Tensor, intercept: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.as_tensor(weight, dtype=torch.float32))
        self.register_buffer("intercept", torch.tensor(float(intercept)))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, features) → (batch,)."""
        return features @ self.weight + self.intercept


class Distance(nn.Module):
    """Half the squared distance from the mean of some scans' features, each in units of its standard deviation.

    A feature that hardly varies counts by a tenth of the usual standard deviation, as for a linear probe: else it would
    be all that is seen.

    Args:
        features: of those scans, (scans, features).

    Raises:
        InputError: fewer than two scans, which have no distances from their mean.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        if len(features) < 2:
            raise InputError(
                "an encoder without a head is explained by how a scan differs from the others, which needs at least 2, "
                f"and there is {len(features)}: take more scans, or weights= of a run that was trained for a task"
            )
        sd = features.std(dim=0, correction=0)
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("sd", sd.clamp(min=0.1 * float(sd.square().mean().sqrt()) + 1e-12))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, features) → (batch,)."""
        return ((features - self.mean) / self.sd).square().sum(dim=1) / 2


def background(inputs: Tensor, intensity: Intensity) -> Tensor:
    """Inputs without a brain: background alone.

    Args:
        inputs: (batch, 1, z, y, x), normalised.
        intensity: how they were normalised. With `z_score_brain` the background is 0, and so is the brain's mean: an
            empty volume is at the same time a brain without any contrast.

    Returns:
        The same shape.
    """
    if intensity == "z_score_volume":  # the darkest, since brain is > 0 in a store
        return inputs.amin(dim=(1, 2, 3, 4), keepdim=True).expand_as(inputs)
    return torch.zeros_like(inputs)
