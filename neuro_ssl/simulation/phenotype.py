"""What the planted effects come to in one brain at one session."""

from dataclasses import dataclass

import numpy as np

from neuro_ssl.simulation.cohort import Stream, Subject, random_stream
from neuro_ssl.simulation.effects import TEACHING, Effects


@dataclass(frozen=True)
class Phenotype:
    """How a brain differs from the template; millimetres are of the template.

    Attributes:
        ventricle_mm: outward shift of the ventricle walls.
        horn_mm: radius of the temporal horns.
        hippocampus_shrinkage: relative linear shrinkage of the hippocampi across their axes.
        cortex_mm: depth to which sulci have widened.
        medial_temporal_mm: further depth in the medial temporal lobe.
        head_scale: linear size of the head, template = 1.
        cerebellum_stretch: relative linear growth of the cerebellum.
        frontal_stretch: relative growth of the frontal lobes' width.
        lesion_ml: volume of the stroke lesion, in the subject's own size.
    """

    ventricle_mm: float
    horn_mm: float
    hippocampus_shrinkage: float
    cortex_mm: float
    medial_temporal_mm: float
    head_scale: float
    cerebellum_stretch: float
    frontal_stretch: float
    lesion_ml: float


def phenotype(subject: Subject, session: int, effects: Effects = TEACHING) -> Phenotype:
    """The brain of `subject` at `session` (from 0): the same person at each, older and more ill by the interval."""
    rng = random_stream(subject.seed, Stream.TRAITS, subject.index)
    brain_age, ventricle, cortex, head, cerebellum, frontal, lesion = rng.standard_normal(7)
    now_years, baseline_years = subject.sessions[session].age_years, subject.sessions[0].age_years
    severity = 0.0
    if subject.diagnosis == "AD":
        severity = rng.uniform(*effects.alzheimers_severity)
        severity += effects.alzheimers_progression * (now_years - baseline_years)
    male = 0.5 if subject.sex == "M" else -0.5
    ageing = (now_years + effects.brain_age_sd_years * brain_age - 20) / 70  # 0 at 20, 1 at 90
    # Real ventricles accelerate; the floor keeps the curve monotone for brains younger than 20.
    ventricle_mm = effects.ventricle_mm * (ageing * (0.4 + 0.6 * max(ageing, 0.0)))
    head_volume_log = effects.head_volume_log * male + effects.head_volume_sd_log * head + effects.head_size_log
    return Phenotype(
        ventricle_mm=ventricle_mm + effects.ventricle_sd_mm * ventricle + effects.alzheimers_ventricle_mm * severity,
        horn_mm=effects.horn_mm + effects.alzheimers_horn_mm * severity,
        hippocampus_shrinkage=effects.alzheimers_hippocampus * severity,
        cortex_mm=effects.cortex_start_mm + effects.cortex_mm * ageing + effects.cortex_sd_mm * cortex,
        medial_temporal_mm=effects.alzheimers_cortex_mm * severity,
        head_scale=float(np.exp(head_volume_log / 3)),
        cerebellum_stretch=effects.cerebellum_stretch * (effects.shape_d * male + cerebellum),
        frontal_stretch=effects.frontal_stretch * (-effects.shape_d * male + frontal),
        lesion_ml=effects.lesion_ml_per_nihss * (subject.nihss or 0) * float(np.exp(effects.lesion_sd_log * lesion)),
    )
