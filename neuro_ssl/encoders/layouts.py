"""What is known of others' published weights: how to tell them, their licence, advice, cohorts and preprocessing.

Nothing here is guessed: where the authors' material doesn't say, the text says that. Axes: arrays that MONAI's readers
load are (x, y, z), those of SimpleITK (z, y, x); the kernels of the former are transposed on import, so that every
encoder takes this package's (z, y, x).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from neuro_ssl.contract import Contract
from neuro_ssl.encoders import sizes

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One kind of published file.

    Attributes:
        name: short, for commands and folders.
        title: for people.
        wrapper: key of the checkpoint under which the tensors must lie; None for any, or none.
        parallel: whether keys must start with `module.`, as parallel training writes them; None for either.
        prefix: of the encoder's keys.
        mark: a key, or the beginning of keys, that such a file has.
        encoder: configuration of the encoder, by the shapes of its tensors (without `prefix`).
        contract: what a volume must be, for that encoder.
        licence: of the weights.
        advice: of the authors, or of those who evaluated them.
        citation: what to cite.
        cohorts: pretrained on, by the authors' names; empty where these are not known here.
        dropped: beginnings of keys (with `prefix`) that are left out on purpose, and why.
        child: where our module keeps the encoder's tensors, if not at its top.
        xyz: whether its arrays are (x, y, z), so that kernels are to be transposed.
    """

    name: str
    title: str
    wrapper: str | None
    parallel: bool | None
    prefix: str
    mark: str
    encoder: Callable[[State], dict[str, Any]]
    contract: Callable[[dict[str, Any]], Contract]
    licence: str
    advice: str
    citation: str
    cohorts: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    child: str = ""
    xyz: bool = False


def _paper(_: dict[str, Any]) -> Contract:
    text = (
        "TurboPrep (N4, SynthStrip, rigid to the ICBM 152 2009c template, WhiteStripe), z-score inside the brain mask; "
        "a store differs in its tools, not in grid, orientation or z-score"
    )
    return Contract("paper_1mm", (150, 192, 192), 1.0, "z_score_brain", text)


def _brainiac_v1(_: dict[str, Any]) -> Contract:
    text = (
        "volumes of 128³, min–max to 0–1; the spacing is not stated: 1.5 mm covers the brain; an unstretched box, "
        "where resizing a whole image stretches it"
    )
    return Contract("128x128x128@1.5mm", (128, 128, 128), None, "min_max", text)


def _brainiac_v2(encoder: dict[str, Any]) -> Contract:
    z, y, x = encoder["shape"]
    text = (
        "resized to 96³ (trilinear), z-score over the voxels that are not 0, which are a store's brain; the spacing "
        "follows from the image: 2 mm covers the brain; an unstretched box, where resizing a whole image stretches it"
    )
    return Contract(f"{z}x{y}x{x}@{192 / z:g}mm", (z, y, x), None, "z_score_brain", text)


def _openmind(_: dict[str, Any]) -> Contract:
    text = "1 mm isotropic, z-score over the whole volume, background included; a store's background, skull too, is 0"
    return Contract("paper_1mm", None, 1.0, "z_score_volume", text)


def _medicalnet(_: dict[str, Any]) -> Contract:
    text = (
        "z-score over voxels > 0, as a store's brain; their background is Gaussian noise, a store's is 0; their images "
        "are resized to a shape that is the user's choice"
    )
    return Contract("paper_1mm", None, None, "z_score_brain", text)


def _unstated(_: dict[str, Any]) -> Contract:
    text = "not stated in the file; given volumes as this package's own encoders get them"
    return Contract("paper_1mm", None, None, "z_score_brain", text)


_CLASSIFIER = {"fc.": "classifier"}
_BRAINIAC = {
    "prefix": "backbone.",
    "wrapper": None,
    "parallel": None,
    "licence": "CC BY-NC 4.0: no commercial use",
    "citation": "BrainIAC, Nature Neuroscience 2026",
    "xyz": True,
}
LAYOUTS = (
    Layout(
        name="neuro_simclr",
        title="3D-Neuro-SimCLR (Kaczmarek et al. 2025), ResNet-18",
        wrapper="model_state_dict",
        parallel=None,
        prefix="encoder.",
        mark="encoder.conv1.weight",
        encoder=lambda state: sizes.resnet(state, stem_stride=1),
        contract=_paper,
        licence="MIT",
        advice="its authors fine-tune the whole network; SOOP, one of their tasks, is among the pretraining cohorts",
        citation="Kaczmarek, Szeto, Nichyporuk, Arbel, ICCV Workshops 2025, doi 10.1109/ICCVW69036.2025.00141",
        cohorts=("ADNI", "AOMIC", "CoRR", "DLBS", "GSP", "HABS-HD", "MCSA", "NIFD", "PPMI", "SALD", "SOOP"),
        dropped={
            "projector.": "contrastive projector",
            "head.": "head of the fine-tuned task",
            "encoder.fc.": "classifier",
        },
    ),
    Layout(
        name="brainiac_v1",
        title="BrainIAC v1, ResNet-50",
        mark="backbone.conv1.weight",
        encoder=lambda state: sizes.resnet(state, stem_stride=2),
        contract=_brainiac_v1,
        advice="none known here",
        dropped={"backbone.fc.": "classifier"},
        **_BRAINIAC,  # type: ignore[arg-type]
    ),
    Layout(
        name="brainiac_v2",
        title="BrainIAC v2, ViT-B/16",
        mark="backbone.patch_embedding.",
        encoder=sizes.monai_vit,
        contract=_brainiac_v2,
        advice="features are the mean of all patch tokens; its authors take the first one, a patch at a corner: "
        "--pooling first",
        dropped={"backbone.blocks.*.norm_cross_attn.": "norm of cross attention, which nothing uses"},
        **_BRAINIAC,  # type: ignore[arg-type]
    ),
    Layout(
        name="openmind_resenc_l",
        title="OpenMind ResEnc-L (nnssl)",
        wrapper=None,
        parallel=None,
        prefix="encoder.",
        mark="encoder.stem.",
        child="encoder.",
        encoder=sizes.resenc,
        contract=_openmind,
        licence="not known here: see the model's card",
        advice="its card advises fine-tuning rather than frozen features",
        citation="Wald et al. 2024, An OpenMind for 3D medical vision self-supervised learning",
        cohorts=("OpenMind",),
        dropped={"decoder.": "decoder of the pretraining", "seg_layers.": "decoder of the pretraining"},
    ),
    Layout(
        name="medicalnet",
        title="MedicalNet (Med3D), 3D ResNet",
        wrapper="state_dict",
        parallel=True,
        prefix="",
        mark="layer1.0.conv1.weight",
        encoder=lambda state: sizes.resnet(state, stem_stride=2, dilated=True),
        contract=_medicalnet,
        licence="MIT",
        advice="trained to segment several organs in CT and MRI, not brains alone: fine-tune",
        citation="Chen, Ma, Zheng 2019, Med3D: Transfer Learning for 3D Medical Image Analysis, arXiv 1904.00625",
        dropped={"conv_seg.": "decoder of the segmentation", **_CLASSIFIER},
    ),
    Layout(
        name="monai_resnet",
        title="MONAI's 3D ResNet",
        wrapper=None,
        parallel=None,
        prefix="",
        mark="layer1.0.conv1.weight",
        encoder=lambda state: sizes.resnet(state, stem_stride=1),
        contract=_unstated,
        licence="not stated in the file",
        advice="the file says neither what its input was nor its stem's stride, taken to be MONAI's default of 1",
        citation="not stated in the file",
        dropped=_CLASSIFIER,
    ),
)
