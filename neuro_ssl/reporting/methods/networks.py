"""The methods' words for encoders and views, by their configuration."""

from collections.abc import Mapping
from typing import Any

from neuro_ssl.reporting.methods.words import listed, or_unknown, unknown
from neuro_ssl.reporting.runs.records import RunInfo

RESNET = "(He et al. 2016; Hara et al. 2018)"
SIZES = {"vit_tiny": "ViT-Tiny", "vit_small": "ViT-Small", "vit_base": "ViT-Base"}


@or_unknown("the encoder")
def encoder(info: RunInfo) -> str:
    """`a 3D ResNet-18 (He et al. 2016, …; 33.2 million parameters)`."""
    node = info.config.get("encoder") or {}
    kind = str(node.get("_target_", "")).rpartition(".")[2]
    size = f"{info.encoder.parameters_millions:.1f} million parameters"
    if kind == "ResNet3D" and "depth" in node:
        settings = [f"{node['width']} channels in its first stage", f"{node['norm']} normalisation"]
        settings += [f"a stem of stride {node['stem_stride']}", size]
        return f"a 3D ResNet-{node['depth']} {RESNET} with {listed(settings)}"
    if kind == "ViT3D" and "width" in node:
        name = f"3D {SIZES.get(info.encoder.name, 'vision transformer')} (Dosovitskiy et al. 2021)"
        patches = "×".join(map(str, node["patch_size"]))
        return (
            f"a {name} with {node['n_layers']} layers, {node['n_heads']} heads, tokens of width {node['width']} for "
            f"patches of {patches} voxels, and {size}"
        )
    if kind == "SFCN":
        return f"an SFCN (Peng et al. 2021) with {size}"
    if kind == "DenseNet3D":
        layers = sum(node.get("block_config", ())) * 2 + 5  # stem, three transitions and a last layer
        return f"a 3D DenseNet-{layers} (Huang et al. 2017) with {size}"
    if kind == "ResEnc":
        return f"the residual encoder of nnU-Net ResEnc-L (Isensee et al. 2024) with {size}"
    return f"the network {info.encoder.name} ({unknown('its architecture, with a reference')}) with {size}"


@or_unknown("the augmentation")
def views(node: Mapping[str, Any] | None) -> str:
    """What the views change, as a list in words; nothing without views."""
    if not node:
        return ""
    kind = str(node.get("_target_", "")).rpartition(".")[2]
    if kind == "Standard":
        return _standard(node)
    if kind == "Kaczmarek2025":
        return _kaczmarek2025(node)
    return unknown(f"the augmentation {kind}")


def _standard(node: Mapping[str, Any]) -> str:
    low, high = (100 * x for x in node["crop_scale"])
    changes = [f"crops of {low:g}–{high:g} % of each side, not resized"] if low < 100 else []
    changes += _with(node["flip_probability"], "left–right flips")
    if angle := node["rotation_degrees"]:
        changes.append(f"rotations of up to {angle:g}° about each axis")
    for key, what in (("scale_range", "scaling"), ("stretch_range", "stretching of each axis")):
        if list(node[key]) != [1.0, 1.0]:
            changes.append(f"{what} by {_range(node[key])}")
    box = f"a box of {100 * node['cutout_side']:g} % of the side taken out"
    of_intensity = [
        f"gamma {_range(node['gamma_range'])}",
        f"contrast × {_range(node['contrast_range'])}",
        f"Rician noise (standard deviation up to {node['noise_sd']:g} of white matter)",
        f"Gaussian blur (σ up to {node['blur_sigma_voxels']:g} voxel{'s' * (node['blur_sigma_voxels'] != 1)})",
        box,
    ]
    if node["probability"]:
        changes.append(f"{listed(of_intensity)}, each with a probability of {node['probability']:g}")
    changes += _with(node["bias_field_probability"], "smooth bias fields of the third degree")
    changes += _with(node["low_resolution_probability"], "lower resolution")
    changes += _with(node["gaussian_noise_probability"], "Gaussian noise")
    return "; ".join(changes)


def _kaczmarek2025(node: Mapping[str, Any]) -> str:
    smallest = "×".join(map(str, node["min_crop_voxels"]))
    degrees = 57.29577951308232 * node["rotation_radians"]
    changes = [f"crops of at least {smallest} of 150×192×192 voxels, resized"]
    changes += _with(node["flip_probability"], "left–right flips")
    changes += _with(node["rotation_probability"], f"axial rotations of up to {degrees:.0f}°")
    changes += _with(node["gamma_probability"], f"gamma {_range(node['gamma_range'])}")
    return f"those of Kaczmarek et al. 2025: {'; '.join(changes)}"


def _with(probability: float, what: str) -> list[str]:
    """Nothing where it never happens."""
    return [f"{what} (probability {probability:g})"] if probability else []


def _range(values: Any) -> str:
    low, high = values
    return f"{low:g}–{high:g}"
