"""Weights in use: an encoder with what it expects of a scan, and features of NIfTI files by the same preprocessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neuro_ssl.checkpoint import Weights
from neuro_ssl.console import progress_bar
from neuro_ssl.data.registered import SETTINGS as REGISTERED
from neuro_ssl.encoders.pooled import Layer, Pooled, Pooling
from neuro_ssl.errors import InputError
from neuro_ssl.grid import Grid
from neuro_ssl.preprocessing.pipeline import BrainExtraction, Preprocessing
from neuro_ssl.views.intensity import intensity_of, normalise

AXES = "(z, y, x), increasing towards superior, anterior, right (RAS); left–right is the last axis"


@dataclass(frozen=True)
class InputContract:
    """What an encoder expects of its input, which is (batch, 1, z, y, x) in float32.

    Attributes:
        grid: name, shape along (z, y, x), spacing in mm and affine.
        axes: order and direction of the axes.
        brain_extraction: how the brains were found that it was trained on.
        intensity: of brain voxels; everything else is exactly 0.
        preprocessing: all settings of the preprocessing that it was trained on.
    """

    grid: Grid
    axes: str
    brain_extraction: BrainExtraction
    intensity: str
    preprocessing: Mapping[str, Any]


def load_encoder(weights: str | Path) -> nn.Module:
    """A trained encoder in evaluation mode, with its `input_contract`.

    Args:
        weights: a run directory, an imported or exported folder, `hf://org/name[@revision]`, or a published file.

    Returns:
        A module volume (batch, 1, z, y, x) → features (batch, `embed_dim`), on the CPU.

    Raises:
        InputError: no finished run, an encoder that cannot be built or that the weights don't fit, or scans that
            were preprocessed by another version.
    """
    found = Weights.load(str(weights))
    encoder = found.build_encoder()
    if found.contract is not None and not found.record:  # others'
        preprocessing = Preprocessing(Grid.named(found.contract.grid), "deepbet")
        encoder.input_contract = InputContract(  # type: ignore[assignment]
            grid=preprocessing.grid,
            axes=AXES,
            brain_extraction=preprocessing.brain_extraction,
            intensity=f"{found.intensity} (neuro_ssl.views.intensity.normalise); its authors: "
            f"{found.contract.preprocessing}",
            preprocessing=preprocessing.settings,
        )
        return encoder.eval()
    dataset = found.record["dataset"]
    if dataset["preprocessing"] == REGISTERED:
        encoder.input_contract = InputContract(  # type: ignore[assignment]
            grid=Grid.named(dataset["grid"]),
            axes=AXES,
            brain_extraction="mask",
            intensity="z-score over the brain",
            preprocessing=dict(REGISTERED),
        )
        return encoder.eval()
    made = Preprocessing.of(Grid.named(dataset["grid"]), dataset["preprocessing"])
    if made.settings != dataset["preprocessing"]:
        raise InputError(
            f"weights={found.path} were trained on scans preprocessed as {dataset['preprocessing']}, and this version "
            f"does {made.settings}; install the version of neuro_ssl that run.yaml names"
        )
    encoder.input_contract = InputContract(  # type: ignore[assignment]
        grid=made.grid,
        axes=AXES,
        brain_extraction=made.brain_extraction,
        intensity="white matter = 1, then z-score over the brain",
        preprocessing=made.settings,
    )
    return encoder.eval()


def embed_files(
    weights: str | Path,
    paths: Sequence[str | Path],
    *,
    masks: Sequence[str | Path] | None = None,
    batch_size: int = 8,
    layer: Layer = "last",
    pooling: Pooling = "encoder",
) -> npt.NDArray[np.float32]:
    """Features of NIfTI images, preprocessed as the encoder's training scans were.

    For others' weights: by this package's preprocessing, on their grid and with their intensity.

    One scan after another; for a whole cohort, the commands preprocess and embed work in parallel.

    Args:
        weights: as for `load_encoder`.
        paths: T1w images.
        masks: their brain masks, in the same order. Without them deepbet finds the brains, or, for an encoder that was
            trained on images without skull, they are where an image is > 0.
        batch_size: volumes in memory at once.
        layer: see `encoders.pooled.Pooled`.
        pooling: see `encoders.pooled.Pooled`.

    Returns:
        (n, features), in the order of `paths`; computed on a GPU if there is one.

    Raises:
        InputError: as `load_encoder`; an image or a mask that cannot be used, by name; another number of masks than
            of images.
    """
    if isinstance(paths, str | Path) or isinstance(masks, str | Path):
        raise InputError(f"paths and masks must be lists of files, got {paths!r} and {masks!r}")
    images = [str(path) for path in paths]
    if not images:
        raise InputError("paths is empty: give at least one image")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if masks is not None and len(masks) != len(images):
        raise InputError(f"{len(images)} images and {len(masks)} masks: give one mask for each image, or none")
    given = [None] * len(images) if masks is None else [str(mask) for mask in masks]
    encoder = load_encoder(weights)
    contract: InputContract = encoder.input_contract  # type: ignore[assignment]
    if contract.preprocessing == REGISTERED:
        raise InputError(
            f"weights={weights} were trained on registered images as they are, which embed_files doesn't make: read "
            "such images by neuro_ssl.data.registered, and call load_encoder"
        )
    brain_extraction: BrainExtraction = "deepbet" if masks is None else "mask"
    if contract.brain_extraction == "none" and masks is None:
        brain_extraction = "none"
    preprocessing = replace(Preprocessing.of(contract.grid, contract.preprocessing), brain_extraction=brain_extraction)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = Pooled(encoder, layer, pooling).eval().to(device)
    features = []
    with torch.inference_mode(), progress_bar(total=len(images), desc="embed", unit="scan", delay=10) as bar:
        for start in range(0, len(images), batch_size):
            chosen = slice(start, start + batch_size)
            volumes = []
            for image, mask in zip(images[chosen], given[chosen], strict=True):
                volumes.append(preprocessing(image, mask).volume)
                bar.update()
            volume = torch.from_numpy(np.stack(volumes)[:, None]).to(device)
            features.append(encoder(normalise(volume, intensity_of(encoder))).float().cpu().numpy())
    return np.concatenate(features)
