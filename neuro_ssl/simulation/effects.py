"""What age, sex and disease do to a simulated brain: every planted number is here.

Sizes are chosen for teaching, not taken from a study: strong enough that a small network finds them in about
ninety scans (atrophy is about twice that of real ageing), with a spread between subjects that leaves something to
get wrong: from its own numbers a brain's age can be told to 4.3 years (MAE) and its sex with an AUROC of 0.99.
"""

from dataclasses import dataclass

import numpy as np

from neuro_ssl.simulation.cohort import Stream, Subject, random_stream

BRAIN_AGE_SD_YEARS = 4.0  # a subject's brain is older or younger than its age: brain age = age + N(0, this)
VENTRICLE_MM = 8.0  # by how much ventricle walls are pushed outwards between 20 and 90, slowly at first: 70 ml
VENTRICLE_SD_MM = 0.8  # of that, between subjects of one brain age
HORN_MM = 0.8  # radius of the temporal horns
CORTEX_START_MM, CORTEX_MM, CORTEX_SD_MM = -1.5, 4.0, 0.25  # depth to which sulci widen: at 20, gained until 90, spread

HEAD_VOLUME_LOG, HEAD_VOLUME_SD_LOG = 0.10, 0.07  # log volume, men minus women, and spread: Cohen's d 1.4
SHAPE_D = 2.0  # Cohen's d of each of the two shape scores between men and women
CEREBELLUM_STRETCH = 0.08  # linear size of the cerebellum per unit of its score; men have the larger
FRONTAL_STRETCH = 0.07  # width of the frontal lobes per unit of its score; women have the wider

# At severity 1; severity is uniform in 0.6 to 1.4.
ALZHEIMERS_HIPPOCAMPUS = 0.3  # linear shrinkage of the hippocampus across its axis
ALZHEIMERS_HORN_MM = 3.5  # radius that the temporal horn beside it gains
ALZHEIMERS_CORTEX_MM = 1.5  # sulcal widening of the medial temporal lobe
ALZHEIMERS_VENTRICLE_MM = 1.0  # and of the ventricles everywhere

LESION_ML_PER_NIHSS, LESION_SD_LOG = 3.0, 0.25  # lesion volume in ml = 3 · NIHSS · exp(N(0, 0.25))


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


def phenotype(subject: Subject, session: int) -> Phenotype:
    """The brain of `subject` at `session` (from 0): the same person at each, older by the interval."""
    rng = random_stream(subject.seed, Stream.TRAITS, subject.index)
    brain_age, ventricle, cortex, head, cerebellum, frontal, lesion = rng.standard_normal(7)
    severity = rng.uniform(0.6, 1.4) if subject.diagnosis == "AD" else 0.0
    male = 0.5 if subject.sex == "M" else -0.5
    ageing = (subject.session_ages_years[session] + BRAIN_AGE_SD_YEARS * brain_age - 20) / 70  # 0 at 20, 1 at 90
    # Real ventricles accelerate; the floor keeps the curve monotone for brains younger than 20.
    ventricle_ageing = ageing * (0.4 + 0.6 * max(ageing, 0.0))
    return Phenotype(
        ventricle_mm=VENTRICLE_MM * ventricle_ageing + VENTRICLE_SD_MM * ventricle + ALZHEIMERS_VENTRICLE_MM * severity,
        horn_mm=HORN_MM + ALZHEIMERS_HORN_MM * severity,
        hippocampus_shrinkage=ALZHEIMERS_HIPPOCAMPUS * severity,
        cortex_mm=CORTEX_START_MM + CORTEX_MM * ageing + CORTEX_SD_MM * cortex,
        medial_temporal_mm=ALZHEIMERS_CORTEX_MM * severity,
        head_scale=float(np.exp((HEAD_VOLUME_LOG * male + HEAD_VOLUME_SD_LOG * head) / 3)),
        cerebellum_stretch=CEREBELLUM_STRETCH * (SHAPE_D * male + cerebellum),
        frontal_stretch=FRONTAL_STRETCH * (-SHAPE_D * male + frontal),
        lesion_ml=LESION_ML_PER_NIHSS * (subject.nihss or 0) * float(np.exp(LESION_SD_LOG * lesion)),
    )
