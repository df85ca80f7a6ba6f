"""What age, sex, disease and scanners do to a simulated brain: every planted number is a field of `Effects`.

`Effects` holds the sizes for teaching: chosen, not taken from a study, strong enough that a small network finds them in
about ninety scans (ventricles grow about twice as much as real ones), with a spread between subjects that leaves
something to get wrong: from its own numbers a brain's age can be told to 4.3 years (MAE) and its sex with an AUROC of
0.99.
`RealisticEffects` is nearer to what studies report; each number there says from where, or that it is chosen.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from neuro_ssl.errors import InputError

Range = tuple[float, float]

_NEVER_NEGATIVE = (
    *("brain_age_sd_years", "ventricle_sd_mm", "cortex_sd_mm", "horn_mm", "lesion_ml_per_nihss"),
    *("noise_3t", "bias_3t", "csf_3t", "gm_3t", "folds_mm", "texture", "grid_shift_mm"),
)


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
        head_size_log: log of mean head volume; 0 is the template's, which is larger than most heads.
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
        interpolation: degree of the spline that carries the anatomy over to the voxels: 1 blurs, 3 hardly.
        texture: standard deviation of a brain's own intensity pattern.
        grid_shift_mm: standard deviation of where a session's voxel grid lies on the head.
    """

    brain_age_sd_years: float = 4.0
    ventricle_mm: float = 8.0  # 50 ml in the images
    ventricle_sd_mm: float = 0.8
    horn_mm: float = 0.8
    cortex_start_mm: float = -1.5
    cortex_mm: float = 4.0
    cortex_sd_mm: float = 0.25
    head_size_log: float = 0.0
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
    # T1 of white and grey matter: 646 and 1197 ms at 1.5 T, 838 and 1607 ms at 3 T (Wright et al. 2008, MPRAGE); where
    # T1 weighting is strong, signals go with 1/T1, and fluid keeps its T1: 838 / 646, and 838 / 1607 · 1197 / 646.
    csf_3t: float = 1.3
    gm_3t: float = 0.97
    shape_mm: Range = (1.5, 0.8)
    folds_mm: float = 0.0
    sharpness: float = 1.0
    interpolation: Literal[1, 3] = 1
    texture: float = 0.025
    grid_shift_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no brain or scanner can have.

        Raises:
            InputError: naming the size, its range and its value.
        """
        for name, value in asdict(self).items():
            if isinstance(value, tuple | list):
                if len(value) != 2 or min(value) < 0 or (name != "shape_mm" and value[0] > value[1]):
                    raise InputError(f"effects.{name} must be two numbers, 0 or more, in order; got {list(value)}")
            elif value < 0 and (name.endswith("_sd_log") or name in _NEVER_NEGATIVE):
                raise InputError(f"effects.{name} must be 0 or more, got {value}")
        if not 0.5 <= self.sharpness <= 10:
            raise InputError(f"effects.sharpness must be from 0.5 to 10, got {self.sharpness}")


@dataclass(frozen=True, kw_only=True)
class RealisticEffects(Effects):
    """Sizes nearer to real ones; what is not listed here is as in `Effects`.

    `experiments/simulated_cohort` measures what they come to in images.
    """

    brain_age_sd_years: float = 5.0  # chosen
    ventricle_mm: float = 5.0  # 18 ml from 30 to 80; 0.3 ml a year (healthy men of 21 to 70; Pfefferbaum et al. 1994)
    ventricle_sd_mm: float = 1.5  # chosen
    # Tissue falls by 3 % from 30 to 55 and 8 % from 55 to 80. Brains lose 0.2 % a year at 35 and 0.5 % from 60 on (56
    # longitudinal studies; Hedman et al. 2012), which is more.
    cortex_start_mm: float = -1.2
    cortex_mm: float = 2.7
    cortex_sd_mm: float = 0.4  # chosen
    head_size_log: float = -0.25  # 1.47 l; 1.47 l in men and 1.29 l in women (Matsumae et al. 1996)
    shape_d: float = 0.3  # chosen; d of size stays, 1.4
    alzheimers_hippocampus: float = 0.13  # 24 % of its volume (Shi et al. 2009)
    alzheimers_horn_mm: float = 2.0  # chosen, as the next
    alzheimers_cortex_mm: float = 0.8
    alzheimers_progression: float = 0.13  # 3 % of the hippocampus a year more than in health (Barnes et al. 2009)
    # 3 ml a point is within what is seen in minor strokes (medians 7 to 24 ml at 0 to 5 points; Yaghi et al. 2017); the
    # spread gives a correlation with NIHSS of about 0.6, as acute lesions have (0.56; Lövblad et al. 1997).
    lesion_sd_log: float = 0.9
    # How the images look: chosen beside 8 heads of IXI at 2 mm, for a like spectrum.
    csf: Range = (0.20, 0.35)
    gm: Range = (0.64, 0.74)
    noise: Range = (0.03, 0.045)
    shape_mm: Range = (2.0, 1.0)
    folds_mm: float = 1.0
    sharpness: float = 3.0
    interpolation: Literal[1, 3] = 3
    grid_shift_mm: float = 3.0


TEACHING = Effects()
