"""Does a map depend on what was learnt? (Adebayo et al. 2018, Sanity Checks for Saliency Maps, cascading randomisation)

Weights are replaced by those of the same encoder before any training, from the head towards the input, and each time
the map is made again. If it stays like the trained model's, it shows the scan's edges or the network's architecture,
and not what the model has learnt. Likeness is Spearman's correlation of absolute attributions over the brain.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor, nn

from neuro_ssl.encoders import Encoder
from neuro_ssl.explaining.output import Explained, Linear

# Likeness to the map of a model that has learnt nothing, above which a map says little. Methods that multiply by the
# input have that factor in common with it: even if their gradients have nothing to do with each other, it is about 0.5.
SUSPICIOUS = 0.7


def randomised(model: Explained, untrained: nn.Module, seed: int = 0) -> Iterator[tuple[str, Explained]]:
    """The model with more and more of it untrained.

    Args:
        model: trained.
        untrained: its encoder before training; of an encoder without stages, all at once.
        seed: of the head's random weights, which keep the standard deviation of the trained ones.

    Yields:
        From where on it is untrained, and the model: `head` (if it is linear), the stages from the last to the first,
        and at last `input`, where nothing of it is trained. It is one model that changes: use each before the next.
    """
    model = copy.deepcopy(model)
    if isinstance(model.readout, Linear):
        weight = model.readout.weight
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.device)
        model.readout.weight = noise * weight.std(correction=0)
        yield "head", model
    if isinstance(model.encoder, Encoder) and isinstance(untrained, Encoder):
        pairs = list(zip(model.encoder.stages(), untrained.stages(), strict=True))
        for number, (ours, theirs) in reversed(list(enumerate(pairs))[1:]):
            for module, other in zip(ours, theirs, strict=True):
                module.load_state_dict(other.state_dict())
            yield f"stage {number}", model
    model.encoder.load_state_dict(untrained.state_dict())
    yield "input", model


def likeness(map_: npt.ArrayLike, other: npt.ArrayLike, brain: npt.NDArray[np.bool_]) -> float:
    """Spearman's correlation of two maps' absolute values over the brain; nan if one of them is constant there."""
    a, b = (np.abs(np.asarray(one))[brain] for one in (map_, other))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def likeness_to_untrained(
    model: Explained,
    untrained: nn.Module,
    inputs: Tensor,
    brains: Tensor,
    attribute: Callable[[Explained, Tensor], Tensor],
) -> dict[str, float]:
    """How like its own the maps of a model are once parts of it are untrained.

    Args:
        model: trained.
        untrained: see `randomised`.
        inputs: some scans, (scans, 1, z, y, x), normalised.
        brains: their masks, boolean, of the same shape.
        attribute: the method, (model, inputs) → maps.

    Returns:
        From where on it is untrained → mean of `likeness` over the scans that have one; nan if none has, as where
        Grad-CAM's maps are 0 throughout.
    """
    trained = attribute(model, inputs).cpu().numpy()
    found = {}
    for where, changed in randomised(model, untrained):
        maps = attribute(changed, inputs).cpu().numpy()
        values = [likeness(*one) for one in zip(trained, maps, brains.cpu().numpy(), strict=True)]
        defined = [value for value in values if not np.isnan(value)]
        found[where] = float(np.mean(defined)) if defined else float("nan")
    return found
