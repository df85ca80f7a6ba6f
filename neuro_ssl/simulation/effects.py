"""What age, sex, disease and scanners do to a simulated brain: every planted number is a field of `Effects`.

`Effects` holds the sizes for teaching: chosen, not taken from a study, strong enough that a small network finds them in
about ninety scans (atrophy is about twice that of real ageing), with a spread between subjects that leaves something
to get wrong: from its own numbers a brain's age can be told to 4.3 years (MAE) and its sex with an AUROC of 0.99.
`RealisticEffects` is nearer to what studies report; each number there says from where, or that it is chosen.
"""

from dataclasses import dataclass

import numpy as np

from neuro_ssl.simulation.cohort import Stream, Subject, random_stream

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Sizes of all planted effects, for teaching; lengths are of the template, intensities relative to white matter.

    Attributes:
        brain_age_sd_years: a subject's brain is older or younger than its age: brain age = age + N(0, this).
        ventricle_mm: by how much ventricle walls are pushed outwards between 20 and 90, slowly at first.
        ventricle_sd_mm: of that, between subjects of one brain age.
        horn_mm: radius of the temporal horns.
        cortex_start_mm: depth to which sulci have widened at 20.
        cortex_mm: what they gain until 90.
        cortex_sd_mm: spread of the depth.
        head_volume_log: log of head volume, men minus women.
        head_volume_sd_log: its spread.
        shape_d: Cohen's d of each of two shape scores between men and women.
        cerebellum_stretch: linear size of the cerebellum per unit of its score; men have the larger.
        frontal_stretch: width of the frontal lobes per unit of its score; women have the wider.
        alzheimers_severity: at the baseline, uniform in this range; the next four are at severity 1.
        alzheimers_hippocampus: linear shrinkage of the hippocampus across its axis.
        alzheimers_horn_mm: radius that the temporal horn beside it gains.
        alzheimers_cortex_mm: sulcal widening of the medial temporal lobe.
        alzheimers_ventricle_mm: and of the ventricles everywhere.
        alzheimers_progression: severity that a year adds.
        lesion_ml_per_nihss: lesion volume in ml = this · NIHSS · exp(N(0, lesion_sd_log)).
        lesion_sd_log: see there.
        csf, gm, scalp: range over scanners of the intensity of fluid and grey matter; of a factor on everything outside
            the brain.
        bias: range of the standard deviation of the log of the receive field.
        noise: range of the standard deviation of each of the two channels.
        noise_3t, bias_3t, csf_3t, gm_3t: factors on these at 3 T.
        shape_mm: standard deviation of the displacements that make each head its own, 45 and 18 mm apart.
        folds_mm: the same, 9 mm apart: other folds.
        sharpness: exponent on the tissue probabilities: 1 shows the template, an average of 152 brains; more, crisp
            borders.
        texture: standard deviation of a brain's own intensity pattern.
        noise_blur_mm: how far noise is correlated, as a Gaussian's standard deviation.
        grid_shift_mm: standard deviation of where a session's voxel grid lies on the head.
    """

    brain_age_sd_years: float = 4.0
    ventricle_mm: float = 8.0  # 70 ml
    ventricle_sd_mm: float = 0.8
    horn_mm: float = 0.8
    cortex_start_mm: float = -1.5
    cortex_mm: float = 4.0
    cortex_sd_mm: float = 0.25
    head_volume_log: float = 0.10  # with the spread: Cohen's d 1.4
    head_volume_sd_log: float = 0.07
    shape_d: float = 2.0
    cerebellum_stretch: float = 0.08
    frontal_stretch: float = 0.07
    alzheimers_severity: Range = (0.6, 1.4)
    alzheimers_hippocampus: float = 0.3
    alzheimers_horn_mm: float = 3.5
    alzheimers_cortex_mm: float = 1.5
    alzheimers_ventricle_mm: float = 1.0
    alzheimers_progression: float = 0.0
    lesion_ml_per_nihss: float = 3.0
    lesion_sd_log: float = 0.25
    csf: Range = (0.18, 0.30)
    gm: Range = (0.62, 0.74)
    scalp: Range = (0.8, 1.3)
    bias: Range = (0.03, 0.08)
    noise: Range = (0.015, 0.035)
    # Twice the field is twice the signal in theory; the best of it is lost to longer T1 and faster read-out: chosen.
    noise_3t: float = 0.6
    bias_3t: float = 1.5  # shorter waves in the head: chosen
    # T1 of white and grey matter: 646 and 1197 ms at 1.5 T, 838 and 1607 ms at 3 T (Wright et al. 2008, MPRAGE); where T1
    # weighting is strong, signals go with 1/T1, and fluid keeps its T1: 838 / 646, and 838 / 1607 · 1197 / 646.
    csf_3t: float = 1.3
    gm_3t: float = 0.97
    shape_mm: Range = (1.5, 0.8)
    folds_mm: float = 0.0
    sharpness: float = 1.0
    texture: float = 0.025
    noise_blur_mm: float = 0.0
    grid_shift_mm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RealisticEffects(Effects):
    """Sizes nearer to real ones; what is not listed here is as in `Effects`."""

    brain_age_sd_years: float = 5.0  # chosen
    ventricle_mm: float = 4.0
    ventricle_sd_mm: float = 1.5
    cortex_start_mm: float = -1.5
    cortex_mm: float = 2.0
    cortex_sd_mm: float = 0.4
    shape_d: float = 0.3
    alzheimers_hippocampus: float = 0.13
    alzheimers_horn_mm: float = 2.0
    alzheimers_cortex_mm: float = 0.6
    alzheimers_progression: float = 0.13
    lesion_sd_log: float = 0.9


TEACHING = Effects()


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
    head_volume_log = effects.head_volume_log * male + effects.head_volume_sd_log * head
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
