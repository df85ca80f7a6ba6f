"""The configuration of an encoder, read off the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from neuro_ssl.errors import InputError

HEAD_WIDTH = 64  # of ViT-B: 768 features, 12 heads, which shapes don't show


def resnet(state: Mapping[str, Tensor], *, stem_stride: int, dilated: bool = False) -> dict[str, Any]:
    """A 3D ResNet in MONAI's names.

    Args:
        state: its tensors.
        stem_stride: which shapes don't show.
        dilated: likewise, see `published_resnet`.

    Raises:
        InputError: no such network here.
    """
    from neuro_ssl.encoders.resnet3d import BLOCKS  # here, since MONAI takes 2 s and other encoders do without

    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    layers = [count(state, f"layer{stage}.") for stage in (1, 2, 3, 4)]
    depth = next((depth for depth, blocks in BLOCKS.items() if blocks == (kind, layers)), None)
    if depth is None:
        raise InputError(f"a ResNet of {kind} blocks {layers} is none of depth {', '.join(map(str, BLOCKS))}")
    node = {
        "depth": depth,
        "width": shape(state, "conv1.weight")[0],
        "stem_stride": stem_stride,
        "checkpoint_stages": 0,
    }
    convolved = "layer2.0.downsample.0.weight" in state
    biased = "layer2.0.downsample.0.bias" in state
    if convolved and biased and not dilated:
        return {"_target_": "neuro_ssl.encoders.resnet3d.ResNet3D", "norm": "batch", **node}
    options = {"shortcut": "B" if convolved else "A", "shortcut_bias": biased, "dilated": dilated}
    return {"_target_": "neuro_ssl.encoders.published_resnet.PublishedResNet3D", **node, **options}


def monai_vit(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """MONAI's ViT on cubes, with the heads of ViT-B.

    Raises:
        InputError: no cube.
    """
    width, _, patch_size = shape(state, "patch_embedding.patch_embeddings.weight")[:3]
    n_patches = shape(state, "patch_embedding.position_embeddings")[1]
    side = round(n_patches ** (1 / 3))
    if side**3 != n_patches:
        raise InputError(f"patch_embedding.position_embeddings has {n_patches} patches, which are no cube")
    return {
        "_target_": "neuro_ssl.encoders.monai_vit.MonaiViT",
        "shape": [side * patch_size] * 3,
        "patch_size": patch_size,
        "width": width,
        "n_layers": count(state, "blocks."),
        "n_heads": max(width // HEAD_WIDTH, 1),
        "mlp_width": shape(state, "blocks.0.mlp.linear1.weight")[0],
        "pooling": "mean",
        "checkpoint_stages": 0,
    }


def resenc(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """nnU-Net's residual encoder, in the names of `ResidualEncoder`."""
    n_stages = count(state, "stages.")
    return {
        "_target_": "neuro_ssl.encoders.resenc.ResEnc",
        "features": [shape(state, f"stages.{i}.blocks.0.conv1.conv.weight")[0] for i in range(n_stages)],
        "blocks": [count(state, f"stages.{i}.blocks.") for i in range(n_stages)],
        "checkpoint_stages": 0,
    }


def count(state: Mapping[str, Tensor], beginning: str) -> int:
    """How many numbers follow this beginning of a name."""
    found = (re.match(rf"{re.escape(beginning)}(\d+)\.", name) for name in state)
    return len({match[1] for match in found if match})


def shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Shape of a tensor.

    Raises:
        InputError: it is missing.
    """
    if name not in state:
        raise InputError(f"the tensor {name} is missing")
    return tuple(state[name].shape)
