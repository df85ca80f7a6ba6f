"""Features of a chosen depth of an encoder, pooled in a chosen way."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuro_ssl.contract import Intensity
from neuro_ssl.encoders.encoder import Encoder
from neuro_ssl.errors import InputError

Layer = int | Literal["last"]
Pooling = Literal["encoder", "mean", "max"]


class Pooled(nn.Module):
    """An encoder whose features are those of one of its stages.

    Args:
        encoder: in evaluation mode.
        layer: `last`, or an index into `encoder.stages()`, from 0 at the input. What lies behind it is computed too.
        pooling: over the places of the feature maps, or the patches' tokens without a class token: `mean` or `max`;
            `encoder`: its own, of the last layer alone.

    Raises:
        InputError: no such layer or pooling, or an encoder that has no stages.
    """

    def __init__(self, encoder: nn.Module, layer: Layer = "last", pooling: Pooling = "encoder") -> None:
        super().__init__()
        if pooling not in ("encoder", "mean", "max"):
            raise InputError(f"pooling must be encoder, mean or max, got {pooling!r}")
        if (layer, pooling) != ("last", "encoder") and not isinstance(encoder, Encoder):
            raise InputError(
                f"layer={layer} pooling={pooling}: {type(encoder).__name__} is no neuro_ssl.encoders.Encoder, whose "
                "stages could be chosen; take layer=last pooling=encoder"
            )
        if layer != "last":
            n_stages = len(encoder.stages())  # type: ignore[operator]
            if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < n_stages:
                raise InputError(
                    f"layer must be last or from 0 to {n_stages - 1} for {type(encoder).__name__}, got {layer!r}"
                )
            if pooling == "encoder":
                raise InputError(f"layer={layer}: the encoder pools its last layer alone; set pooling=mean or max")
        self.encoder, self.layer, self.pooling = encoder, layer, pooling

    @property
    def intensity(self) -> Intensity:
        """How a store's volumes are to be normalised, the encoder's own."""
        intensity: Intensity = getattr(self.encoder, "intensity", "z_score_brain")
        return intensity

    @property
    def embed_dim(self) -> int:
        """Number of features; of an inner layer found out on the smallest volume."""
        if self.layer == "last":
            return int(self.encoder.embed_dim)  # type: ignore[arg-type]
        least = (max(pair) for pair in zip(self.encoder.min_shape, self.encoder.stride, strict=True))  # type: ignore[arg-type]
        with torch.inference_mode():
            return self(torch.zeros(1, 1, *least)).shape[1]  # type: ignore[no-any-return]

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, 1, z, y, x) → features (batch, channels of the layer)."""
        if self.pooling == "encoder":
            return self.encoder(volume)  # type: ignore[no-any-return]
        if self.layer == "last":
            return self._pooled(self.encoder.forward_features(volume), volume)  # type: ignore[operator]
        found: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found.append(self._pooled(output, volume))  # at once: what follows may work in place

        last_of_stage = self.encoder.stages()[self.layer][-1]  # type: ignore[operator]
        with last_of_stage.register_forward_hook(keep):
            self.encoder.forward_features(volume)  # type: ignore[operator]
        return found[0]

    def _pooled(self, maps: Tensor, volume: Tensor) -> Tensor:
        """Of maps (batch, channels, z, y, x), or of tokens (batch, tokens, channels), the patches' last."""
        if maps.ndim == 5:
            places = maps.flatten(2)
        else:
            n_patches = math.prod(self.encoder.feature_shape(volume.shape[2:]))  # type: ignore[operator]
            places = maps[:, -n_patches:].transpose(1, 2)
        return places.mean(dim=2) if self.pooling == "mean" else torch.amax(places, dim=2)
